-- Cancels the tasks of a model that wait, newest first: in a queue, for a retry, or for the result of an equal one.
-- Looks at `most` tasks that were created `before` (µs, or '+inf').
-- Answers {how many were canceled, µs before which to go on or ''}
-- takes: move_to_canceled tenant model priorities before most
-- needs: base.ROOT base.target counting.may_go_on queue.withdraw task.finish task.read_task task.task_key
local waiting = string.match(move_to_canceled, '^%u+')
local index = ROOT .. 'state:' .. tenant .. ':' .. waiting
local found = redis.call('ZREVRANGEBYSCORE', index, '(' .. before, '-inf', 'WITHSCORES', 'LIMIT', 0, most)
local wanted, canceled = {}, 0
for priority in string.gmatch(priorities, '%S+') do wanted[priority] = true end
for i = 1, #found, 2 do
  if not may_go_on() then return {canceled, before} end
  local f = redis.call('HMGET', task_key(found[i]), 'model', 'priority')
  if f[1] == model and wanted[f[2]] then
    local task = read_task(found[i])
    withdraw(task)
    finish(task, target(move_to_canceled, waiting), '')
    canceled = canceled + 1
  end
  before = found[i + 1]
end
return {canceled, #found == 2 * most and before or ''}
