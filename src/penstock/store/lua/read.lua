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
local texts = {}
for part in string.gmatch('body outcome attempts', '%S+') do texts[#texts + 1] = ROOT .. part .. ':' .. id end
local found, has_ended = redis.call('MGET', unpack(texts)), task.finished
for i, text in ipairs(found) do
  -- A value of another type looks as if it were not there; GET fails for it. Only what has ended has an outcome.
  if not text and (has_ended or i ~= 2) then found[i] = redis.call('GET', texts[i]) end
end
local due, position = -1, -1
if has_ended then
  due = task.finished + task.ttl_s * 1000
else
  position = position_of(task, paused_queues())
end
local events = task.hook and redis.call('HGETALL', events_key(id)) or {}
return {fields, found[1], found[2] or '', found[3] or '', position, due, events}
