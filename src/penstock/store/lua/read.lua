-- Reads everything that a client may see of a task, in one step.
-- Answers {fields, body, outcome or '', attempts, position or -1, prune ms or -1, events}, {} when there is no such
-- task, {'gone'} when there was one.
-- takes: id tenant
-- needs: base.ROOT gone.is_gone position.position_of queue.paused_queues task.task_key webhook.events_key
local fields = redis.call('HGETALL', task_key(id))
if not fields[1] then
  return is_gone(id, tenant) and {'gone'} or {}
end
local task = {id = id}
for i = 1, #fields, 2 do task[fields[i]] = fields[i + 1] end
if task.tenant ~= tenant then return {} end
local due, position, outcome = redis.call('ZSCORE', ROOT .. 'finals', id), -1, ''
if due then
  outcome = redis.call('GET', ROOT .. 'outcome:' .. id) or ''
else
  position = position_of(task, paused_queues())
end
local body, attempts = redis.call('GET', ROOT .. 'body:' .. id), redis.call('LRANGE', ROOT .. 'attempts:' .. id, 0, -1)
local events = task.hook and redis.call('HGETALL', events_key(id)) or {}
return {fields, body, outcome, attempts, position, tonumber(due or -1), events}
