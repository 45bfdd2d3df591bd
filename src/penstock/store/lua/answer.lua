-- End the tasks that wait for results which are there.
-- ARGV  1 moves of reuse  2 `<model> <digest>` of one of them, or '' for some
-- Answers {1 when there may be others, how many have ended}
local answering, total = ROOT .. 'answering', 0
local some = ARGV[2] ~= '' and {ARGV[2]} or redis.call('SRANDMEMBER', answering, 10)
for _, waiting in ipairs(some) do
  local model, digest = string.match(waiting, '^(%S+) (%S+)$')
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  local outcome = leader and redis.call('GET', ROOT .. 'outcome:' .. leader)
  local count, has_more = 0, false -- without an outcome: the leader was deleted, and who waited was parted from it
  if outcome then count, has_more = answer_followers(leader, model, digest, ARGV[1], outcome) end
  if not has_more then redis.call('SREM', answering, waiting) end
  total = total + count
end
local is_left = ARGV[2] ~= '' and redis.call('SISMEMBER', answering, ARGV[2]) or redis.call('EXISTS', answering)
return {is_left, total}
