-- Hand back what a worker was given without knowing: the answer to its claim was lost. Counts nothing.
-- ARGV  1 moves of release  2 worker  3.. the ids that it knows
-- Answers the ids handed back.
local known = {}
for i = 3, #ARGV do known[ARGV[i]] = true end
local answer = {}
for _, id in ipairs(redis.call('ZRANGE', ROOT .. 'running', 0, -1)) do
  if not known[id] and redis.call('HGET', task_key(id), 'worker') == ARGV[2] then
    local task = read_task(id)
    end_lease(id)
    log_attempt(task, 'release', '')
    put_back(task, target(ARGV[1], task.state))
    answer[#answer + 1] = id
  end
end
return answer
