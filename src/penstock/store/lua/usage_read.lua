-- Reads what tenants have used on single days; each of `places` is `<day> <tenant>`, the day counted since 1970 in UTC.
-- Answers for each place its sums in the order of `names`, as text.
-- takes: names places...
-- needs: account.account_key account.numbers_in account.usage_key
local answer = {}
for i, place in ipairs(places) do
  local day, tenant = string.match(place, '^(%d+) (%S+)$')
  local past, account, sums = numbers_in(usage_key(tenant, day)), numbers_in(account_key(tenant)), {}
  if account.day ~= tonumber(day) then account = {} end
  for name in string.gmatch(names, '%S+') do
    sums[#sums + 1] = string.format('%.15g', (past[name] or 0) + (account[name] or 0))
  end
  answer[i] = sums
end
return answer
