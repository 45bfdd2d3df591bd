-- Say where a running task is.
-- ARGV  1 id  2 token  3 stage  4 done  5 total  6 unit
-- Answers 1, or 0 when the lease is lost.
local id = ARGV[1]
local f = redis.call('HMGET', task_key(id), 'epoch', 'fence', 'hook')
if not holds(id, f, ARGV[2]) then return 0 end
if tonumber(ARGV[5]) > 0 then
  redis.call('HSET', task_key(id), 'stage', ARGV[3], 'done', ARGV[4], 'total', ARGV[5], 'unit', ARGV[6])
else
  redis.call('HSET', task_key(id), 'stage', ARGV[3])
end
tell(id)
if f[3] then post_progress(id, f[3]) end
return 1
