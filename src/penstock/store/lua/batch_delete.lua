-- Forget a batch that has ended, or was never started, before its time is over.
-- ARGV  1 id  2 tenant
-- Answers {'ok', prefix that is condemned by this} {'live', state} {'gone'} {'absent'}
local id = ARGV[1]
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] and is_gone(id, ARGV[2]) then return {'gone'} end
if f[1] ~= ARGV[2] then return {'absent'} end
if not redis.call('ZSCORE', ROOT .. 'closed', id) then return {'live', f[2]} end
forget_batch(id)
return {'ok', CONDEMNED[1]}
