-- Begins to receive a batch. It is deleted again, with the parts that are stored by then, unless it is started in time.
-- `rate_limit` is per 60 s, 0 for none; the next part has to come within `wait_ms`; `digest` is that of the
-- client_request_id, or ''.
-- Answers {'ok', rate left, rate reset ms}   {'rate', retry after ms}   {'many', unfinished batches}
-- takes: id tenant caller rate_limit most_unfinished wait_ms digest
-- needs: account.count_for base.ROOT base.now_ms base.now_us batch.BATCH_BYTES batch.batch_key batch.unfinished_key
--        rate.count_in rate.rate_state
local limit = tonumber(rate_limit)
local unfinished, rate_key, now = unfinished_key(tenant, caller), ROOT .. 'rate:' .. tenant .. '/' .. caller, now_us()
local left, reset = 0, 0
if limit > 0 then left, reset = rate_state(rate_key, limit, now) end
if redis.call('EXISTS', batch_key(id)) == 1 then return {'ok', left, reset} end -- the same call again
local is_known = digest ~= '' and redis.call('EXISTS', ROOT .. 'idem:' .. digest) == 1
if not is_known then
  if limit > 0 and left <= 0 then return {'rate', reset} end
  local count = redis.call('SCARD', unfinished)
  if count >= tonumber(most_unfinished) then return {'many', count} end
end
if limit > 0 then left, reset = count_in(rate_key, now, id, left, reset) end
redis.call('HSET', batch_key(id), 'tenant', tenant, 'caller', caller, 'parts', 0,
  'redis_bytes', BATCH_BYTES)
count_for(tenant, 'redis', BATCH_BYTES)
redis.call('SADD', unfinished, id)
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(wait_ms), id)
return {'ok', left, reset}
