-- Forgets a batch that has ended, or was never started, before its retention is over.
-- Answers {'ok', prefix that is condemned by this} {'live', state} {'gone'} {'absent'}
-- takes: id tenant
-- needs: base.ROOT batch.batch_key batch.forget_batch gone.is_gone objects.CONDEMNED
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] and is_gone(id, tenant) then return {'gone'} end
if f[1] ~= tenant then return {'absent'} end
if not redis.call('ZSCORE', ROOT .. 'closed', id) then return {'live', f[2]} end
forget_batch(id)
return {'ok', CONDEMNED[1]}
