-- A batch that has ended, or was never started, is past its retention from now on.
-- ARGV  1 id  2 tenant  3 the moment in ms
-- Answers {'ok'} {'live', state} {'gone'} {'absent'}
local id = ARGV[1]
local f = redis.call('HMGET', batch_key(id), 'tenant', 'state')
if not f[1] and redis.call('GET', ROOT .. 'gone:' .. id) == ARGV[2] then return {'gone'} end
if f[1] ~= ARGV[2] then return {'absent'} end
local due, over = redis.call('ZSCORE', ROOT .. 'closed', id), now_ms() - ARGV[3]
if not due then return {'live', f[2]} end
if tonumber(due) > over then redis.call('ZADD', ROOT .. 'closed', over, id) end
return {'ok'}
