-- Reads what tenants hold now; `waiting` and `running` are states.
-- Answers for each tenant {tasks that wait, tasks that run, redis, storage, lines, reserved_ms, device_ms of today}, the
-- last five as text.
-- takes: waiting running tenants...
-- needs: account.DAY_MS account.account_key account.numbers_in base.ROOT base.now_ms
local function count(tenant, state)
  return redis.call('ZCARD', ROOT .. 'state:' .. tenant .. ':' .. state)
end

local answer = {}
for i, tenant in ipairs(tenants) do
  local account = numbers_in(account_key(tenant))
  if account.day ~= math.floor(now_ms() / DAY_MS) then account.device_ms = nil end
  answer[i] = {count(tenant, waiting), count(tenant, running)}
  for _, name in ipairs({'redis', 'storage', 'lines', 'reserved_ms', 'device_ms'}) do
    answer[i][#answer[i] + 1] = string.format('%.15g', account[name] or 0)
  end
end
return answer
