-- Forget the batches whose time is over. Their tasks stay.
-- ARGV  1 most
-- Answers {1 when there may be others, how many}
local count = 0
for _, id in ipairs(due_to_go('closed', ARGV[1])) do
  if not may_go_on() then return {1, count} end
  forget_batch(id)
  count = count + 1
end
return {count == tonumber(ARGV[1]) and 1 or 0, count}
