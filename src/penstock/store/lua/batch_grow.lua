-- Notes that a further part of a batch is about to be stored, so that it is deleted with the batch: it has so many `parts`
-- then, of `stored_bytes` together. The next part has to come within `wait_ms`; `quotas` are those of the tenant (see
-- parts/quotas).
-- Answers 'ok', or 'absent' when the batch was deleted because nothing came for too long
--         {'quota', its name, what it allows, retry after ms}
-- takes: id parts stored_bytes wait_ms quotas
-- needs: account.count_for base.ROOT base.now_ms batch.batch_key quotas.beyond_storage quotas.limits_of
local f = redis.call('HMGET', batch_key(id), 'tenant', 'stored_bytes')
if not f[1] then return 'absent' end
local more_bytes = stored_bytes - (f[2] or 0)
local is_beyond = beyond_storage(limits_of(quotas), f[1], more_bytes)
if is_beyond then return is_beyond end
redis.call('HSET', batch_key(id), 'parts', parts, 'stored_bytes', stored_bytes)
count_for(f[1], 'storage', more_bytes)
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(wait_ms), id)
return 'ok'
