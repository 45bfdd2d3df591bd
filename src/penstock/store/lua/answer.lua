-- Ends the tasks that wait for results which are there.
-- `only` is `<model> <digest>` of one such result, or '' for some of them.
-- Answers {1 when there may be others, how many have ended}
-- takes: moves only
-- needs: base.ROOT reuse.answer_followers
local answering, total = ROOT .. 'answering', 0
local some = only ~= '' and {only} or redis.call('SRANDMEMBER', answering, 10)
for _, waiting in ipairs(some) do
  local model, digest = string.match(waiting, '^(%S+) (%S+)$')
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  local outcome = leader and redis.call('GET', ROOT .. 'outcome:' .. leader)
  local count, has_more = 0, false -- without an outcome: the leader was deleted, and the others wait for it no longer
  if outcome then count, has_more = answer_followers(leader, model, digest, moves, outcome) end
  if not has_more then redis.call('SREM', answering, waiting) end
  total = total + count
end
local is_left = only ~= '' and redis.call('SISMEMBER', answering, only) or redis.call('EXISTS', answering)
return {is_left, total}
