-- A task that has ended is past its retention from now on: since a moment ago, so that a clock which is set back a
-- little does not bring it back.
-- ARGV  1 id  2 tenant  3 the moment in ms
-- Answers {'ok'} {'live', state} {'gone'} {'absent'}; one that is past it already is left as it is.
local id = ARGV[1]
local f = redis.call('HMGET', task_key(id), 'tenant', 'state')
if not f[1] and redis.call('GET', ROOT .. 'gone:' .. id) == ARGV[2] then return {'gone'} end
if f[1] ~= ARGV[2] then return {'absent'} end
local due, over = redis.call('ZSCORE', ROOT .. 'finals', id), now_ms() - ARGV[3]
if not due then return {'live', f[2]} end
if tonumber(due) > over then redis.call('ZADD', ROOT .. 'finals', over, id) end
return {'ok'}
