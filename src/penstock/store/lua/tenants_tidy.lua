-- Forgets those of these tenants that have neither a task nor a batch. They are known again with their next one.
-- Answers how many were forgotten.
-- takes: states tenants...
-- needs: base.ROOT
local count = 0
for _, tenant in ipairs(tenants) do
  local lists = {ROOT .. 'batches:' .. tenant}
  for state in string.gmatch(states, '%S+') do lists[#lists + 1] = ROOT .. 'state:' .. tenant .. ':' .. state end
  if redis.call('EXISTS', unpack(lists)) == 0 then count = count + redis.call('SREM', ROOT .. 'tenants', tenant) end
end
return count
