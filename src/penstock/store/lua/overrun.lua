-- Ends the tasks that have not ended by their deadline, waiting or running.
-- Answers {1 when there may be others, id, model, state, ...}
-- takes: moves outcome
-- needs: base.ROOT base.now_ms base.target counting.may_go_on lease.cut_off lease.end_lease lease.token_of
--        queue.withdraw task.finish task.read_task
local answer = {0}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'deadlines', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  answer[1] = 1
  if not may_go_on() then break end
  local task = read_task(id)
  local to = not task.is_missing and target(moves, task.state)
  redis.call('ZREM', ROOT .. 'deadlines', id)
  if to then
    if end_lease(id) then
      cut_off(task, 'overrun', '')
      redis.call('PUBLISH', ROOT .. 'signals', 'cancel ' .. id .. ' ' .. token_of(task))
    end
    withdraw(task)
    finish(task, to, outcome)
    answer[#answer + 1] = id
    answer[#answer + 1] = task.model
    answer[#answer + 1] = to
  end
end
return answer
