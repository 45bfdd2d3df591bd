-- Go on with answering the tasks that wait for results which are there: a settle leaves some when they are many.
-- ARGV  1 moves of reuse
-- Answers {1 when there may be others, how many have ended}
local total = 0
for _, waiting in ipairs(redis.call('SRANDMEMBER', ROOT .. 'answering', 10)) do
  local model, digest = string.match(waiting, '^(%S+) (%S+)$')
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  local outcome = leader and redis.call('GET', ROOT .. 'outcome:' .. leader)
  local count, has_more = 0, false -- without an outcome: the leader was deleted, and who waited was parted from it
  if outcome then count, has_more = answer_followers(leader, model, digest, ARGV[1], outcome) end
  if not has_more then redis.call('SREM', ROOT .. 'answering', waiting) end
  total = total + count
end
return {redis.call('EXISTS', ROOT .. 'answering'), total}
