-- Begins to receive a batch. It is deleted again, with the parts that are stored by then, unless it is started in time.
-- `rate_limit` is per 60 s, 0 for none; the next part has to come within `wait_ms`; `digest` is that of the
-- client_request_id, or ''; `quotas` are those of the tenant (see parts/quotas).
-- Answers {'ok', rate left, rate reset ms, submits left of the tenant's quota, or -1, ms until there are more}
--         {'rate', retry after ms}   {'many', unfinished batches}   {'quota', its name, what it allows, retry after ms}
-- takes: id tenant caller rate_limit quotas most_unfinished wait_ms digest
-- needs: account.count_for base.ROOT base.now_ms base.now_us batch.BATCH_BYTES batch.batch_key batch.unfinished_key
--        quotas.beyond_lines quotas.beyond_redis quotas.beyond_storage quotas.limits_of quotas.submits_key
--        rate.count_in rate.rate_state
local limit = tonumber(rate_limit)
local unfinished, rate_key, now = unfinished_key(tenant, caller), ROOT .. 'rate:' .. tenant .. '/' .. caller, now_us()
local left, reset = 0, 0
if limit > 0 then left, reset = rate_state(rate_key, limit, now) end
local limits = limits_of(quotas)
local most_submits, submits_left, submits_reset = limits.submits_per_minute, -1, 0
if most_submits then submits_left, submits_reset = rate_state(submits_key(tenant), most_submits, now) end
if redis.call('EXISTS', batch_key(id)) == 1 then -- the same call again
  return {'ok', left, reset, submits_left, submits_reset}
end
local is_known = digest ~= '' and redis.call('EXISTS', ROOT .. 'idem:' .. digest) == 1
if not is_known then
  if limit > 0 and left <= 0 then return {'rate', reset} end
  local count = redis.call('SCARD', unfinished)
  if count >= tonumber(most_unfinished) then return {'many', count} end
  if most_submits and submits_left <= 0 then return {'quota', 'submits_per_minute', most_submits, submits_reset} end
  local is_beyond = beyond_redis(limits, tenant, BATCH_BYTES) or beyond_storage(limits, tenant, 0)
    or beyond_lines(limits, tenant, 1)
  if is_beyond then return is_beyond end
end
if limit > 0 then left, reset = count_in(rate_key, now, id, left, reset) end
if most_submits then
  submits_left, submits_reset = count_in(submits_key(tenant), now, id, submits_left, submits_reset)
end
redis.call('HSET', batch_key(id), 'tenant', tenant, 'caller', caller, 'parts', 0,
  'redis_bytes', BATCH_BYTES)
count_for(tenant, 'redis', BATCH_BYTES)
redis.call('SADD', unfinished, id)
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(wait_ms), id)
return {'ok', left, reset, submits_left, submits_reset}
