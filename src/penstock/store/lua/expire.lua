-- Ends the tasks that were not started in time. A task that follows another has started when that one has.
-- Answers {1 when there may be others, id, model, ...}
-- takes: moves outcome
-- needs: base.ROOT base.now_ms base.target counting.may_go_on queue.withdraw task.finish task.read_task task.task_key
local function start_of_leader(task)
  if not task.reused then return false end
  return redis.call('HGET', task_key(redis.call('HGET', ROOT .. 'reuse', task.reuse)), 'started')
end

local answer = {0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'starting', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  answer[1] = 1
  if not may_go_on() then break end
  local task = read_task(id)
  local to = not task.is_missing and target(moves, task.state)
  redis.call('ZREM', ROOT .. 'starting', id)
  local started = start_of_leader(task)
  if started then
    redis.call('HSET', task.key, 'started', started)
  elseif to then
    withdraw(task)
    finish(task, to, outcome)
    answer[#answer + 1] = id
    answer[#answer + 1] = task.model
  end
end
return answer
