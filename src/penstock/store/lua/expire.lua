-- End the tasks that were not started in time. The start of the one that a task follows counts as its own.
-- ARGV  1 moves of expire  2 outcome (JSON)
-- Answers {id, model, ...}
local function start_of_leader(id, model, digest)
  if not digest or not redis.call('ZSCORE', following_key(model), digest .. ' ' .. id) then return false end
  return redis.call('HGET', task_key(redis.call('HGET', ROOT .. 'reuse', digest)), 'started')
end

local answer = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'starting', '-inf', now_ms(), 'LIMIT', 0, 100)) do
  local f = redis.call('HMGET', task_key(id), 'state', 'model', 'priority', 'reuse')
  local to = target(ARGV[1], f[1])
  redis.call('ZREM', ROOT .. 'starting', id)
  local started = start_of_leader(id, f[2], f[4])
  if started then
    redis.call('HSET', task_key(id), 'started', started)
  elseif to then
    withdraw(id, f[2], f[3])
    finish(id, to, ARGV[2])
    answer[#answer + 1] = id
    answer[#answer + 1] = f[2]
  end
end
return answer
