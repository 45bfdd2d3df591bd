-- Take batches that are to be looked at, the longest waiting first. Whoever held one has lost it.
-- ARGV  1 lease ms  2 most
-- Answers {ms until the next is due or -1, id, tenant, epoch, id, ...}
local now = now_ms()
local answer = {-1}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'feeding', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('HDEL', batch_key(id), 'refill')
  redis.call('ZADD', ROOT .. 'feeding', now + tonumber(ARGV[1]), id)
  local epoch = redis.call('HINCRBY', batch_key(id), 'epoch', 1)
  for _, value in ipairs({id, redis.call('HGET', batch_key(id), 'tenant'), epoch}) do answer[#answer + 1] = value end
end
local due = redis.call('ZRANGE', ROOT .. 'feeding', 0, 0, 'WITHSCORES')[2]
if due then answer[1] = math.max(0, tonumber(due) - now) end
return answer
