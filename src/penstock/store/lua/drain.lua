-- Let a worker claim nothing more, or claim again, and tell it so. What is said of one that has lost its connection is
-- kept until it is back, but not for ever.
-- ARGV  1 worker  2 'drain'|'resume'  3 ms after which one that is gone is forgotten
-- Answers 1, or 0 when there is no such worker.
local drained, now = ROOT .. 'drained', now_ms()
if redis.call('HEXISTS', ROOT .. 'workers', ARGV[1]) == 0 and not redis.call('ZSCORE', drained, ARGV[1]) then return 0 end
if ARGV[2] == 'drain' then
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', drained, '-inf', now - ARGV[3], 'LIMIT', 0, 100)) do
    if redis.call('HEXISTS', ROOT .. 'workers', old) == 0 then redis.call('ZREM', drained, old) end
  end
  redis.call('ZADD', drained, 'NX', now, ARGV[1])
else
  redis.call('ZREM', drained, ARGV[1])
end
redis.call('PUBLISH', ROOT .. 'signals', ARGV[2] .. ' ' .. ARGV[1])
return 1
