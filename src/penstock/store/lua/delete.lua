-- Forget tasks that have ended, before their time is over, as many as one script may.
-- ARGV  1 tenant  2 states in which a task is forgotten  3.. ids
-- Answers {{keys and prefixes that are condemned by this}, and for each of the first of these ids 'ok', 'gone', 'absent' or
-- the state of one that is in another}
local function try(id)
  local task = read_task(id)
  if not task.tenant then return is_gone(id, ARGV[1]) and 'gone' or 'absent' end
  if task.tenant ~= ARGV[1] then return 'absent' end
  local is_meant = string.find(ARGV[2], task.state, 1, true)
  if not is_meant or not redis.call('ZSCORE', ROOT .. 'finals', id) then return task.state end
  forget(task)
  return 'ok'
end

local answer = {CONDEMNED}
for i = 3, #ARGV do
  if not may_go_on() then break end
  answer[#answer + 1] = try(ARGV[i])
end
return answer
