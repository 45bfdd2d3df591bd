-- Notes that a further part of a batch is about to be stored, so that it is deleted with the batch: it has so many `parts`
-- then, of `stored_bytes` together. The next part has to come within `wait_ms`.
-- Answers 1, or 0 when the batch was deleted because nothing came for too long.
-- takes: id parts stored_bytes wait_ms
-- needs: account.count_for base.ROOT base.now_ms batch.batch_key
local f = redis.call('HMGET', batch_key(id), 'tenant', 'stored_bytes')
if not f[1] then return 0 end
redis.call('HSET', batch_key(id), 'parts', parts, 'stored_bytes', stored_bytes)
count_for(f[1], 'storage', stored_bytes - (f[2] or 0))
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(wait_ms), id)
return 1
