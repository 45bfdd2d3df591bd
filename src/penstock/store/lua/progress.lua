-- Say where a running task is.
-- ARGV  1 id  2 epoch  3 stage  4 done  5 total  6 unit
-- Answers 1, or 0 when the lease is lost.
local id = ARGV[1]
local f = redis.call('HMGET', task_key(id), 'epoch', 'hook')
if f[1] ~= ARGV[2] or not is_leased(id) then return 0 end
if tonumber(ARGV[5]) > 0 then
  redis.call('HSET', task_key(id), 'stage', ARGV[3], 'done', ARGV[4], 'total', ARGV[5], 'unit', ARGV[6])
else
  redis.call('HSET', task_key(id), 'stage', ARGV[3])
end
tell(id)
if f[2] then post_progress(id, f[2]) end
return 1
