-- End the tasks that were not started in time.
-- ARGV  1 moves of expire  2 outcome (JSON)
-- Answers {id, model, ...}
local answer = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'starting', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  local f = redis.call('HMGET', task_key(id), 'state', 'model', 'priority')
  local to = target(ARGV[1], f[1])
  redis.call('ZREM', ROOT .. 'starting', id)
  if to then
    redis.call('ZREM', queue_key(f[2], f[3]), id)
    redis.call('ZREM', ROOT .. 'delayed', id)
    finish(id, to, ARGV[2])
    answer[#answer + 1] = id
    answer[#answer + 1] = f[2]
  end
end
return answer
