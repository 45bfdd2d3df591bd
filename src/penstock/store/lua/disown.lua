-- Hand back what a worker was given without knowing: the answer to its claim was lost. Counts nothing.
-- ARGV  1 moves of release  2 worker  3 place among the running tasks, from 0  4.. the ids that it knows
-- Answers {place to go on from or -1, ids handed back ...}
local known = {}
for i = 4, #ARGV do known[ARGV[i]] = true end
local answer, place = {-1}, tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', ROOT .. 'running', place, place + 499)) do
  if not may_go_on() then break end
  place = place + 1
  if not known[id] and redis.call('HGET', task_key(id), 'worker') == ARGV[2] then
    local task = read_task(id)
    end_lease(id)
    log_attempt(task, 'release', '')
    put_back(task, target(ARGV[1], task.state))
    answer[#answer + 1] = id
    place = place - 1
  end
end
if place < redis.call('ZCARD', ROOT .. 'running') then answer[1] = place end
return answer
