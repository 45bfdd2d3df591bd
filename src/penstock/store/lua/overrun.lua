-- End the tasks that have not ended by their deadline, waiting or running.
-- ARGV  1 moves of overrun  2 outcome (JSON)
-- Answers {id, model, state, ...}
local answer = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'deadlines', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  local f = redis.call('HMGET', task_key(id), 'state', 'model', 'priority')
  local to = target(ARGV[1], f[1])
  redis.call('ZREM', ROOT .. 'deadlines', id)
  if to then
    if redis.call('ZSCORE', ROOT .. 'running', id) then
      log_attempt(id, 'overrun', '')
      redis.call('PUBLISH', ROOT .. 'signals', 'cancel ' .. id)
    end
    withdraw(id, f[2], f[3])
    finish(id, to, ARGV[2])
    answer[#answer + 1] = id
    answer[#answer + 1] = f[2]
    answer[#answer + 1] = to
  end
end
return answer
