-- Forgets batches whose retention is over. Their tasks stay.
-- Answers {1 when there may be others, how many}
-- takes: most
-- needs: base.due_to_go batch.forget_batch counting.may_go_on
local count = 0
for _, id in ipairs(due_to_go('closed', most)) do
  if not may_go_on() then return {1, count} end
  forget_batch(id)
  count = count + 1
end
return {count == tonumber(most) and 1 or 0, count}
