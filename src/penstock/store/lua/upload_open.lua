-- Writes an upload down before any byte of it is stored, so that no object is ever without a record.
-- `token` is the digest of its token; its bytes may be sent for `open_ms`, and may arrive for `late_ms` after that;
-- unused it lives for `unused_ms`; `rate_limit` is per 60 s, 0 for none; `file` are the facts, as JSON, of the file
-- that it is listed as; `quotas` are those of the tenant (see parts/quotas). `sha256`, `token`, `name` and `file` may be
-- ''.
-- Answers {'ok', ms until which its bytes may be sent, rate left, rate reset ms} or {'rate', retry after ms}
--         or {'quota', its name, what it allows, retry after ms}
-- takes: id tenant caller size content_type sha256 token open_ms late_ms unused_ms rate_limit quotas name file
-- needs: account.count_for base.ROOT base.now_ms base.now_us quotas.beyond_redis quotas.beyond_storage quotas.limits_of
--        rate.count_in rate.rate_state upload.UPLOAD_BYTES
--        upload.files_key upload.upload_key
local limit, now = tonumber(rate_limit), now_us()
local key, rate_key = upload_key(id), ROOT .. 'uploadrate:' .. tenant .. '/' .. caller
local left, reset = rate_state(rate_key, limit, now)
local known = redis.call('HGET', key, 'url_until') -- the same call again: its answer was lost
if known then return {'ok', tonumber(known), left, reset} end
local limits, redis_bytes = limits_of(quotas), UPLOAD_BYTES + #name + #file
local is_beyond = beyond_redis(limits, tenant, redis_bytes) or beyond_storage(limits, tenant, tonumber(size))
if is_beyond then return is_beyond end
if limit > 0 then
  if left <= 0 then return {'rate', reset} end
  left, reset = count_in(rate_key, now, id, left, reset)
end
local url_until = now_ms() + tonumber(open_ms)
local late = url_until + tonumber(late_ms)
redis.call('HSET', key, 'tenant', tenant, 'caller', caller, 'size', size, 'type', content_type, 'created', now_ms(),
  'url_until', url_until, 'late', late, 'unused_ms', unused_ms, 'redis_bytes', redis_bytes)
count_for(tenant, 'redis', redis_bytes, 'storage', tonumber(size))
if sha256 ~= '' then redis.call('HSET', key, 'sha256', sha256) end
if token ~= '' then redis.call('HSET', key, 'token', token) end
if name ~= '' then redis.call('HSET', key, 'name', name) end
if file ~= '' then
  redis.call('HSET', key, 'file', file)
  redis.call('ZADD', files_key(tenant, caller), now, id)
end
redis.call('ZADD', ROOT .. 'uploads', math.max(late, now_ms() + tonumber(unused_ms)), id)
return {'ok', url_until, left, reset}
