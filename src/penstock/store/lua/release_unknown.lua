-- Puts back the tasks that a worker holds without knowing, since the answer to its claim was lost. This counts nothing.
-- The claim itself may still be on its way over another connection: claims of earlier rounds than `next_round` get
-- nothing from here on, which is remembered for `known_s`.
-- `place` counts the running tasks, the last renewed first, from 0, so that a renewal hides none; `leases` are
-- 'id token' of those that the worker knows.
-- Answers {place to go on from or -1, ids that were put back ...}
-- takes: moves worker next_round known_s place leases...
-- needs: base.ROOT base.now_ms base.target counting.may_go_on fields.BOARD fields.set_field lease.end_attempt
--        lease.end_lease task.put_back task.read_task task.task_key
set_field(BOARD, 'round:' .. worker, next_round .. ' ' .. now_ms() + known_s * 1000)
local known = {}
for _, lease in ipairs(leases) do known[lease] = true end
local answer = {-1}
place = tonumber(place)
for _, id in ipairs(redis.call('ZREVRANGE', ROOT .. 'running', place, place + 499)) do
  if not may_go_on() then break end
  place = place + 1
  local f = redis.call('HMGET', task_key(id), 'worker', 'epoch', 'fence')
  if f[1] == worker and not known[id .. ' ' .. f[2] .. '-' .. f[3]] then
    local task = read_task(id)
    end_lease(id)
    end_attempt(task, 'release', '')
    put_back(task, target(moves, task.state))
    answer[#answer + 1] = id
    place = place - 1
  end
end
if place < redis.call('ZCARD', ROOT .. 'running') then answer[1] = place end
return answer
