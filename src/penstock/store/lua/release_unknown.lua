-- Hand back what a worker was given without knowing: the answer to its claim was lost. Counts nothing. The claim itself
-- may still be on its way, over another connection: those of an earlier round are given nothing from here on.
-- ARGV  1 moves of release  2 worker  3 its next round  4 seconds to remember that
--       5 place among the running tasks, the last renewed first, from 0: what is renewed meanwhile hides none
--       6.. 'id token' of the leases that it knows
-- Answers {place to go on from or -1, ids handed back ...}
redis.call('SET', ROOT .. 'round:' .. ARGV[2], ARGV[3], 'EX', ARGV[4])
local known = {}
for i = 6, #ARGV do known[ARGV[i]] = true end
local answer, place = {-1}, tonumber(ARGV[5])
for _, id in ipairs(redis.call('ZREVRANGE', ROOT .. 'running', place, place + 499)) do
  if not may_go_on() then break end
  place = place + 1
  local f = redis.call('HMGET', task_key(id), 'worker', 'epoch', 'fence')
  if f[1] == ARGV[2] and not known[id .. ' ' .. f[2] .. '-' .. f[3]] then
    local task = read_task(id)
    end_lease(id)
    end_attempt(task, 'release', '')
    put_back(task, target(ARGV[1], task.state))
    answer[#answer + 1] = id
    place = place - 1
  end
end
if place < redis.call('ZCARD', ROOT .. 'running') then answer[1] = place end
return answer
