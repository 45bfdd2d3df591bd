-- Everything a client may see of a task, in one step.
-- ARGV  1 id  2 tenant  3 all priorities, highest first
-- Answers {fields, body, outcome or '', attempts, position or -1, prune ms or -1, events}, {} when there is no such task,
-- {'gone'} when there was one.
local id = ARGV[1]
local fields = redis.call('HGETALL', task_key(id))
if not fields[1] then
  return is_gone(id, ARGV[2]) and {'gone'} or {}
end
local f = redis.call('HMGET', task_key(id), 'tenant', 'model', 'priority', 'hook')
if f[1] ~= ARGV[2] then return {} end
local due, position, outcome = redis.call('ZSCORE', ROOT .. 'finals', id), -1, ''
if due then
  outcome = redis.call('GET', ROOT .. 'outcome:' .. id) or ''
else
  position = position_of(id, f[2], f[3], ARGV[3], paused_queues())
end
return {fields, redis.call('GET', ROOT .. 'body:' .. id), outcome, redis.call('LRANGE', ROOT .. 'attempts:' .. id, 0, -1),
  position, tonumber(due or -1), f[4] and redis.call('HGETALL', events_key(id)) or {}}
