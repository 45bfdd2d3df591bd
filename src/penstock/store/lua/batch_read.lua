-- Everything a client may see of a batch, in one step.
-- ARGV  1 id  2 tenant
-- Answers {fields, plan, prune ms or -1, events}, {} when there is no such batch, {'gone'} when there was one.
local id = ARGV[1]
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] then return is_gone(id, ARGV[2]) and {'gone'} or {} end
if f[1] ~= ARGV[2] or not f[2] then return {} end
return {redis.call('HGETALL', batch_key(id)), redis.call('GET', ROOT .. 'plan:' .. id),
  tonumber(redis.call('ZSCORE', ROOT .. 'closed', id) or -1), redis.call('HGETALL', events_key(id))}
