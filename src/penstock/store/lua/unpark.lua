-- Lets tenants have tasks again that wait at a cap which was raised, or for a task that has ended unseen. Some are
-- looked at, picked at random.
-- Answers how many places were freed.
-- needs: base.ROOT caps.is_at_cap caps.unpark counting.may_go_on
local before, seen = redis.call('ZCARD', ROOT .. 'parked'), {}
if before == 0 then return 0 end
for _, place in ipairs(redis.call('ZRANDMEMBER', ROOT .. 'parked', 100)) do
  if not may_go_on() then break end
  local tenant = string.match(place, '^%S+')
  if not seen[tenant] and not is_at_cap(tenant) then unpark(tenant) end
  seen[tenant] = true
end
return before - redis.call('ZCARD', ROOT .. 'parked')
