-- Starts a batch of which all lines are checked and stored. `next_state` is its state when its last line ends;
-- `models` says of each part how many of its lines are of which model, as JSON.
-- `digest`, that of the client_request_id, and `hook` (see parts/webhook) may be ''; `quotas` are those of the tenant
-- (see parts/quotas).
-- Answers {'ok'|'replay', id}   {'mismatch', id}   {'absent'} when it was deleted because nothing came for too long
--         {'quota', its name, what it allows, retry after ms}
-- takes: id plan models lines ttl_s state next_state digest fingerprint hook quotas
-- needs: account.count_for account.list_tenant base.ROOT base.now_us batch.LINE_BYTES batch.batch_key batch.call_feeder
--        quotas.beyond_lines quotas.beyond_redis quotas.limits_of
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] then return {'absent'} end
if f[2] then return {'ok', id} end -- the same call again: its answer was lost
local known = digest ~= '' and redis.call('GET', ROOT .. 'idem:' .. digest)
if known then
  local first, its_fingerprint = string.match(known, '^(%S+) (%S+)$')
  return {its_fingerprint == fingerprint and 'replay' or 'mismatch', first}
end
local limits, more_bytes = limits_of(quotas), #plan + #models + lines * LINE_BYTES
local is_beyond = beyond_redis(limits, f[1], more_bytes) or beyond_lines(limits, f[1], tonumber(lines))
if is_beyond then return is_beyond end
if digest ~= '' then
  redis.call('SET', ROOT .. 'idem:' .. digest, id .. ' ' .. fingerprint)
  redis.call('HSET', batch_key(id), 'idem', digest)
end
if hook ~= '' then redis.call('HSET', batch_key(id), 'hook', hook) end
local now = now_us()
redis.call('HSET', batch_key(id), 'state', state, 'next', next_state, 'total', lines, 'fed', 0, 'epoch', 0,
  'ttl_s', ttl_s, 'created', now, 'models', models)
redis.call('HINCRBY', batch_key(id), 'redis_bytes', more_bytes)
count_for(f[1], 'redis', more_bytes, 'lines', tonumber(lines))
redis.call('SET', ROOT .. 'plan:' .. id, plan)
redis.call('ZADD', ROOT .. 'batches:' .. f[1], now, id)
list_tenant(f[1])
redis.call('ZREM', ROOT .. 'closed', id)
call_feeder(id)
return {'ok', id}
