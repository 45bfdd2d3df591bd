-- Hand back what a worker was given without knowing: the answer to its claim was lost. Counts nothing.
-- ARGV  1 moves of release  2 worker  3.. 'id epoch' of the leases that it knows
-- Answers the ids handed back.
local known = {}
for i = 3, #ARGV do known[ARGV[i]] = true end
local answer = {}
for _, id in ipairs(redis.call('ZRANGE', ROOT .. 'running', 0, -1)) do
  local f = redis.call('HMGET', task_key(id), 'worker', 'epoch')
  if f[1] == ARGV[2] and not known[id .. ' ' .. f[2]] then
    local task = read_task(id)
    end_lease(id)
    log_attempt(task, 'release', '')
    put_back(task, target(ARGV[1], task.state))
    answer[#answer + 1] = id
  end
end
return answer
