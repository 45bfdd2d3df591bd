-- Hands back the lease of a batch; only its holder may. The batch is due again after `wait_ms`, or never when that is
-- -1; and at once when no more than `refill` of its tasks are unfinished.
-- Answers 1, or 0 when the lease is lost.
-- takes: id epoch wait_ms refill
-- needs: base.ROOT base.now_ms batch.batch_key batch.call_feeder batch.open_key
local wait = tonumber(wait_ms)
if redis.call('HGET', batch_key(id), 'epoch') ~= epoch or not redis.call('ZSCORE', ROOT .. 'feeding', id) then
  return 0
end
if wait < 0 then
  redis.call('ZREM', ROOT .. 'feeding', id)
elseif redis.call('SCARD', open_key(id)) <= tonumber(refill) then
  call_feeder(id)
else
  redis.call('HSET', batch_key(id), 'refill', refill)
  redis.call('ZADD', ROOT .. 'feeding', now_ms() + wait, id)
end
return 1
