-- Let a worker claim nothing more, or claim again, and tell it so. What is said of one that has lost its connection is
-- kept until it is back.
-- ARGV  1 worker  2 'drain'|'resume'
-- Answers 1, or 0 when there is no such worker.
local drained = ROOT .. 'drained'
if redis.call('HEXISTS', ROOT .. 'workers', ARGV[1]) == 0 and not redis.call('ZSCORE', drained, ARGV[1]) then return 0 end
if ARGV[2] == 'drain' then
  redis.call('ZADD', drained, 'NX', now_ms(), ARGV[1])
else
  redis.call('ZREM', drained, ARGV[1])
end
redis.call('PUBLISH', ROOT .. 'signals', ARGV[2] .. ' ' .. ARGV[1])
return 1
