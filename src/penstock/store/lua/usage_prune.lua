-- Forgets what tenants used on days that are over for longer than `kept_days`, and the accounts of those of which nothing
-- else is left. `held` names what an account may hold.
-- Answers {1 when there may be others, how many days of tenants were forgotten}
-- takes: kept_days held most
-- needs: account.DAY_MS account.USED account.account_key account.numbers_in account.usage_key base.ROOT base.has_grace
--        base.now_ms
if has_grace() then return {0, 0} end
local last = math.floor(now_ms() / DAY_MS) - kept_days - 1
local due = redis.call('ZRANGEBYSCORE', ROOT .. 'usage', '-inf', last, 'LIMIT', 0, most)

-- Deletes the account of a tenant that holds nothing; another one forgets what it was used for on its last day.
local function close(tenant, account)
  local used = {}
  for name in string.gmatch(USED, '%S+') do used[#used + 1] = name end
  for name in string.gmatch(held, '%S+') do
    if (account[name] or 0) ~= 0 then return redis.call('HDEL', account_key(tenant), unpack(used)) end
  end
  redis.call('DEL', account_key(tenant))
end

for _, place in ipairs(due) do
  local day, tenant = string.match(place, '^(%d+) (%S+)$')
  local account = numbers_in(account_key(tenant))
  redis.call('DEL', usage_key(tenant, day))
  redis.call('ZREM', ROOT .. 'usage', place)
  if account.day == tonumber(day) then close(tenant, account) end
end
return {#due == tonumber(most) and 1 or 0, #due}
