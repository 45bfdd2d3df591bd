-- Forgets those of these tenants that have neither a task nor a batch. They are known again with their next one. Where none
-- of the `live` states has a task, no device time is reserved: a damaged record may have left some.
-- Answers how many were forgotten.
-- takes: states live tenants...
-- needs: account.account_key base.ROOT
local count = 0
local function lists_of(tenant, names)
  local lists = {}
  for state in string.gmatch(names, '%S+') do lists[#lists + 1] = ROOT .. 'state:' .. tenant .. ':' .. state end
  return unpack(lists)
end

for _, tenant in ipairs(tenants) do
  if redis.call('EXISTS', lists_of(tenant, live)) == 0 then redis.pcall('HDEL', account_key(tenant), 'reserved_ms') end
  if redis.call('EXISTS', ROOT .. 'batches:' .. tenant, lists_of(tenant, states)) == 0 then
    redis.pcall('HDEL', account_key(tenant), 'listed')
    count = count + redis.call('SREM', ROOT .. 'tenants', tenant)
  end
end
return count
