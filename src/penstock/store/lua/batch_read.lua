-- Reads everything that a client may see of a batch, in one step.
-- Answers {fields, plan, prune ms or -1, events}, {} when there is no such batch, {'gone'} when there was one.
-- takes: id tenant
-- needs: base.ROOT batch.batch_key gone.is_gone webhook.events_key
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] then return is_gone(id, tenant) and {'gone'} or {} end
if f[1] ~= tenant or not f[2] then return {} end
return {redis.call('HGETALL', batch_key(id)), redis.call('GET', ROOT .. 'plan:' .. id),
  tonumber(redis.call('ZSCORE', ROOT .. 'closed', id) or -1), redis.call('HGETALL', events_key(id))}
