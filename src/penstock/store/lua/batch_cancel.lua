-- Cancels a batch: none of its lines is enqueued any more, and its next feeder cancels the tasks that are left.
-- Canceling twice is fine. `next_state` is the state of the batch when its last line ends.
-- Answers {'ok'|'refused', state} {'gone'} {'absent'}
-- takes: moves next_state id tenant
-- needs: base.target batch.batch_key batch.call_feeder gone.is_gone
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] and is_gone(id, tenant) then return {'gone'} end
if f[1] ~= tenant or not f[2] then return {'absent'} end
local to = target(moves, f[2])
if not to then return {'refused', f[2]} end
redis.call('HSET', batch_key(id), 'state', to, 'next', next_state)
redis.call('HINCRBY', batch_key(id), 'epoch', 1)
redis.call('HDEL', batch_key(id), 'refill')
call_feeder(id)
return {'ok', to}
