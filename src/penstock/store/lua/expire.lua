-- End the tasks that were not started in time. The start of the one that a task follows counts as its own.
-- ARGV  1 moves of expire  2 outcome (JSON)
-- Answers {1 when there may be others, id, model, ...}
local function start_of_leader(task)
  if not task.reused then return false end
  return redis.call('HGET', task_key(redis.call('HGET', ROOT .. 'reuse', task.reuse)), 'started')
end

local answer = {0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'starting', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  answer[1] = 1
  if not may_go_on() then break end
  local task = read_task(id)
  local to = not task.is_missing and target(ARGV[1], task.state)
  redis.call('ZREM', ROOT .. 'starting', id)
  local started = start_of_leader(task)
  if started then
    redis.call('HSET', task.key, 'started', started)
  elseif to then
    withdraw(task)
    finish(task, to, ARGV[2])
    answer[#answer + 1] = id
    answer[#answer + 1] = task.model
  end
end
return answer
