-- All lines are checked and stored: feed them from now on.
-- ARGV  1 id  2 plan (JSON)  3 lines  4 ttl s  5 first state  6 state when its last line ends  7 idempotency digest
--       or ''  8 fingerprint  9 hook (see parts/webhook) or ''
-- Answers {'ok'|'replay', id}   {'mismatch', id}   {'absent'} when it was deleted since nothing came for too long
local id = ARGV[1]
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] then return {'absent'} end
if f[2] then return {'ok', id} end -- the same call again: its answer was lost
local known = ARGV[7] ~= '' and redis.call('GET', ROOT .. 'idem:' .. ARGV[7])
if known then
  local first, fingerprint = string.match(known, '^(%S+) (%S+)$')
  return {fingerprint == ARGV[8] and 'replay' or 'mismatch', first}
end
if ARGV[7] ~= '' then
  redis.call('SET', ROOT .. 'idem:' .. ARGV[7], id .. ' ' .. ARGV[8])
  redis.call('HSET', batch_key(id), 'idem', ARGV[7])
end
if ARGV[9] ~= '' then redis.call('HSET', batch_key(id), 'hook', ARGV[9]) end
local now = now_us()
redis.call('HSET', batch_key(id), 'state', ARGV[5], 'next', ARGV[6], 'total', ARGV[3], 'fed', 0, 'epoch', 0,
  'ttl_s', ARGV[4], 'created', now)
redis.call('SET', ROOT .. 'plan:' .. id, ARGV[2])
redis.call('ZADD', ROOT .. 'batches:' .. f[1], now, id)
redis.call('ZREM', ROOT .. 'closed', id)
call_feeder(id)
return {'ok', id}
