-- Leases batches that are due to be fed, the longest waiting first. Whoever held one of them has lost it. Batches in
-- `left_out` are skipped: the caller is feeding them.
-- Answers {ms until the next is due or -1, id, tenant, epoch, id, ...}
-- takes: lease_ms most left_out...
-- needs: base.ROOT base.now_ms batch.batch_key
local now, room, passed = now_ms(), tonumber(most), #left_out
local answer, is_left_out = {-1}, {}
for _, id in ipairs(left_out) do is_left_out[id] = true end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'feeding', '-inf', now, 'LIMIT', 0, room + passed)) do
  if room > 0 and not is_left_out[id] then
    room = room - 1
    redis.call('HDEL', batch_key(id), 'refill')
    redis.call('ZADD', ROOT .. 'feeding', now + tonumber(lease_ms), id)
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
