-- Forget the tasks whose time is over, those that have waited longest first, as many as one script may.
-- ARGV  1 most
-- Answers {1 when there may be others, how many}
local count = 0
for _, id in ipairs(due_to_go('finals', ARGV[1])) do
  if not may_go_on() then return {1, count} end
  local task = read_task(id)
  if task.is_missing then redis.call('ZREM', ROOT .. 'finals', id) else forget(task) end
  count = count + 1
end
return {count == tonumber(ARGV[1]) and 1 or 0, count}
