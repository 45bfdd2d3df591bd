-- Take batches that are to be looked at, the longest waiting first. Whoever held one has lost it.
-- ARGV  1 lease ms  2 most  3.. ids that are left out: who asks is at work on them
-- Answers {ms until the next is due or -1, id, tenant, epoch, id, ...}
local now, room, passed = now_ms(), tonumber(ARGV[2]), #ARGV - 2
local answer, is_left_out = {-1}, {}
for i = 3, #ARGV do is_left_out[ARGV[i]] = true end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'feeding', '-inf', now, 'LIMIT', 0, room + passed)) do
  if room > 0 and not is_left_out[id] then
    room = room - 1
    redis.call('HDEL', batch_key(id), 'refill')
    redis.call('ZADD', ROOT .. 'feeding', now + tonumber(ARGV[1]), id)
    local epoch = redis.call('HINCRBY', batch_key(id), 'epoch', 1)
    for _, value in ipairs({id, redis.call('HGET', batch_key(id), 'tenant'), epoch}) do answer[#answer + 1] = value end
  end
end
local first = redis.call('ZRANGE', ROOT .. 'feeding', 0, passed, 'WITHSCORES')
for i = 1, #first, 2 do
  if not is_left_out[first[i]] then
    answer[1] = math.max(0, tonumber(first[i + 1]) - now)
    break
  end
end
return answer
