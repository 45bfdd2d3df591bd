-- Queues followers on their own that would be served before their leader by now, since queues were paused or go on.
-- `place` counts the followers, from 0.
-- Answers the place to go on from, or -1.
-- takes: model place
-- needs: base.ROOT counting.may_go_on position.waiting_task queue.enqueue queue.paused_queues queue.place_of
--        queue.queue_key reuse.following_key reuse.rank_of reuse.unfollow
place = tonumber(place)
local paused, ranks = paused_queues(), {}

-- The rank of the leader in the order of priorities, or nil when it does not wait.
local function rank_of_leader(digest)
  if ranks[digest] == nil then
    local leader = redis.call('HGET', ROOT .. 'reuse', digest)
    local task = waiting_task(leader)
    local waits = redis.call('ZSCORE', queue_key(model, task.priority), place_of(task))
    ranks[digest] = waits and rank_of(model, task.priority, paused)
  end
  return ranks[digest]
end

local waiting = redis.call('ZRANGE', following_key(model), place, place + 499)
for _, member in ipairs(waiting) do
  if not may_go_on() then return place end
  local digest, id = string.match(member, '^(%S+) (%S+)$')
  local leader, task = rank_of_leader(digest), waiting_task(id)
  if leader and rank_of(model, task.priority, paused) < leader then
    unfollow(model, digest, id)
    enqueue(task)
  else
    place = place + 1
  end
end
return #waiting == 500 and place or -1
