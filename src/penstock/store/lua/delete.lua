-- Forgets tasks that have ended in one of these states before their retention is over, as many as one script may.
-- Answers {{keys and prefixes that are condemned by this}, and for each of the first of these ids 'ok', 'gone',
-- 'absent' or the state of a task in another state}
-- takes: tenant states ids...
-- needs: base.ROOT counting.may_go_on gone.is_gone objects.CONDEMNED task.forget task.read_task
local function try(id)
  local task = read_task(id)
  if not task.tenant then return is_gone(id, tenant) and 'gone' or 'absent' end
  if task.tenant ~= tenant then return 'absent' end
  local is_meant = string.find(states, task.state, 1, true)
  if not is_meant or not redis.call('ZSCORE', ROOT .. 'finals', id) then return task.state end
  forget(task)
  return 'ok'
end

local answer = {CONDEMNED}
for _, id in ipairs(ids) do
  if not may_go_on() then break end
  answer[#answer + 1] = try(id)
end
return answer
