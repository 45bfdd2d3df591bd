-- Hand back what a worker was given without knowing: the answer to its claim was lost. Counts nothing.
-- ARGV  1 moves of release  2 worker  3.. the ids that it knows
-- Answers the ids handed back.
local known = {}
for i = 3, #ARGV do known[ARGV[i]] = true end
local answer = {}
for _, id in ipairs(redis.call('ZRANGE', ROOT .. 'running', 0, -1)) do
  local f = redis.call('HMGET', task_key(id), 'worker', 'state')
  if f[1] == ARGV[2] and not known[id] then
    log_attempt(id, 'release', '')
    redis.call('ZREM', ROOT .. 'running', id)
    part(id)
    move(id, target(ARGV[1], f[2]))
    redis.call('HSET', task_key(id), 'stage', 'queued')
    requeue(id)
    answer[#answer + 1] = id
  end
end
return answer
