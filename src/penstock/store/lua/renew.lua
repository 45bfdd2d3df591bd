-- Extend the leases of one worker, all in one call, and say that it lives.
-- ARGV  1 worker  2 description (JSON) or '' to sign off  3 lease ms  4 its models, sorted  5.. id, token, id, token ...
-- Answers 'id token' of each lease that is lost.
local now = now_ms()
if ARGV[2] == '' then
  redis.call('HDEL', ROOT .. 'workers', ARGV[1])
  redis.call('ZREM', ROOT .. 'workers:seen', ARGV[1])
  redis.call('ZREM', ROOT .. 'drained', ARGV[1])
else
  redis.call('HSET', ROOT .. 'workers', ARGV[1], ARGV[2])
  redis.call('ZADD', ROOT .. 'workers:seen', now + tonumber(ARGV[3]), ARGV[1])
  redis.call('ZADD', ROOT .. 'pools:seen', now, open_pool(ARGV[4]))
end
local lost = {}
for i = 5, #ARGV, 2 do
  if holds(ARGV[i], redis.call('HMGET', task_key(ARGV[i]), 'epoch', 'fence'), ARGV[i + 1]) then
    redis.call('ZADD', ROOT .. 'running', now + tonumber(ARGV[3]), ARGV[i])
  else
    lost[#lost + 1] = ARGV[i] .. ' ' .. ARGV[i + 1]
  end
end
return lost
