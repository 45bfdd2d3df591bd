-- Hand a batch back. Only the holder of its lease may.
-- ARGV  1 id  2 epoch  3 ms until it is looked at again, or -1 when nothing of it is left to do
--       4 look at it at once when no more tasks of it than these are unfinished; -1 never
-- Answers 1, or 0 when the lease is lost.
local id, wait, refill = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('HGET', batch_key(id), 'epoch') ~= ARGV[2] or not redis.call('ZSCORE', ROOT .. 'feeding', id) then
  return 0
end
if wait < 0 then
  redis.call('ZREM', ROOT .. 'feeding', id)
elseif redis.call('SCARD', open_key(id)) <= refill then
  call_feeder(id)
else
  redis.call('HSET', batch_key(id), 'refill', refill)
  redis.call('ZADD', ROOT .. 'feeding', now_ms() + wait, id)
end
return 1
