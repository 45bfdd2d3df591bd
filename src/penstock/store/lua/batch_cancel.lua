-- Cancel a batch: nothing more of it is fed, and who feeds it next cancels what is left. Canceling twice is fine.
-- ARGV  1 moves of a cancel  2 state when its last line ends  3 id  4 tenant
-- Answers {'ok'|'refused', state} {'gone'} {'absent'}
local id = ARGV[3]
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] and is_gone(id, ARGV[4]) then return {'gone'} end
if f[1] ~= ARGV[4] or not f[2] then return {'absent'} end
local to = target(ARGV[1], f[2])
if not to then return {'refused', f[2]} end
redis.call('HSET', batch_key(id), 'state', to, 'next', ARGV[2])
redis.call('HINCRBY', batch_key(id), 'epoch', 1)
redis.call('HDEL', batch_key(id), 'refill')
call_feeder(id)
return {'ok', to}
