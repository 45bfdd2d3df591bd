-- Starts a batch of which all lines are checked and stored. `next_state` is its state when its last line ends;
-- `digest`, that of the client_request_id, and `hook` (see parts/webhook) may be ''.
-- Answers {'ok'|'replay', id}   {'mismatch', id}   {'absent'} when it was deleted because nothing came for too long
-- takes: id plan lines ttl_s state next_state digest fingerprint hook
-- needs: account.count_for base.ROOT base.now_us batch.LINE_BYTES batch.batch_key batch.call_feeder
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] then return {'absent'} end
if f[2] then return {'ok', id} end -- the same call again: its answer was lost
local known = digest ~= '' and redis.call('GET', ROOT .. 'idem:' .. digest)
if known then
  local first, its_fingerprint = string.match(known, '^(%S+) (%S+)$')
  return {its_fingerprint == fingerprint and 'replay' or 'mismatch', first}
end
if digest ~= '' then
  redis.call('SET', ROOT .. 'idem:' .. digest, id .. ' ' .. fingerprint)
  redis.call('HSET', batch_key(id), 'idem', digest)
end
if hook ~= '' then redis.call('HSET', batch_key(id), 'hook', hook) end
local now = now_us()
redis.call('HSET', batch_key(id), 'state', state, 'next', next_state, 'total', lines, 'fed', 0, 'epoch', 0,
  'ttl_s', ttl_s, 'created', now)
local more_bytes = #plan + lines * LINE_BYTES
redis.call('HINCRBY', batch_key(id), 'redis_bytes', more_bytes)
count_for(f[1], 'redis', more_bytes)
redis.call('SET', ROOT .. 'plan:' .. id, plan)
redis.call('ZADD', ROOT .. 'batches:' .. f[1], now, id)
redis.call('SADD', ROOT .. 'tenants', f[1])
redis.call('ZREM', ROOT .. 'closed', id)
call_feeder(id)
return {'ok', id}
