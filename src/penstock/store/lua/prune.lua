-- Forgets the tasks whose retention is over, the longest over first, as many as one script may.
-- Answers {1 when there may be others, how many}
-- takes: most
-- needs: base.ROOT base.due_to_go counting.may_go_on task.forget task.read_task
local count = 0
for _, id in ipairs(due_to_go('finals', most)) do
  if not may_go_on() then return {1, count} end
  local task = read_task(id)
  if task.is_missing then redis.call('ZREM', ROOT .. 'finals', id) else forget(task) end
  count = count + 1
end
return {count == tonumber(most) and 1 or 0, count}
