-- Say where a running task is.
-- ARGV  1 id  2 epoch  3 stage  4 done  5 total  6 unit
-- Answers 1, or 0 when the lease is lost.
if not holds(ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', task_key(ARGV[1]), 'stage', ARGV[3])
if tonumber(ARGV[5]) > 0 then
  redis.call('HSET', task_key(ARGV[1]), 'done', ARGV[4], 'total', ARGV[5], 'unit', ARGV[6])
end
tell(ARGV[1])
post_progress(ARGV[1])
return 1
