-- The account of a tenant, `account:<tenant>`: what it holds now (`redis` and `storage` in bytes; `lines` of batches
-- that have not ended; `reserved_ms`, what its unfinished tasks are expected to take of a device), and what it has used
-- on one `day`, which is counted in UTC since 1970. What it used on an earlier day is in `usage:<tenant>:<day>`.
-- `listed` is there while the tenant is in the set of those with tasks or batches.
local DAY_MS = 86400000
local USED = 'submitted success failed canceled expired device_ms bytes_in bytes_out'

local function account_key(tenant)
  return ROOT .. 'account:' .. tenant
end

local function usage_key(tenant, day)
  return ROOT .. 'usage:' .. tenant .. ':' .. day
end

-- The numbers of a hash by their names, but none that is damaged, and none of a key of another type: damage must stop no
-- task.
local function numbers_in(key)
  local flat, found = redis.pcall('HGETALL', key), {}
  if flat.err then redis.call('DEL', key) end
  for i = 1, #flat, 2 do
    local number = tonumber(flat[i + 1])
    if number and number > -1e15 and number < 1e15 then found[flat[i]] = number end
  end
  return found
end

-- Writes numbers into a hash: name, number ... Their thousandths are exact.
local function write_numbers(key, numbers)
  for i = 2, #numbers, 2 do numbers[i] = string.format('%.15g', math.floor(numbers[i] * 1000 + 0.5) / 1000) end
  if numbers[1] then redis.call('HSET', key, unpack(numbers)) end
end

-- Lists the tenant among those that have used something today, and puts away what it used on an earlier day.
local function begin_day(tenant, account, today)
  local names, sums = {}, {}
  local past = account.day and numbers_in(usage_key(tenant, account.day)) -- the clock may have been set back
  for name in string.gmatch(USED, '%S+') do
    names[#names + 1] = name
    if past and account[name] then
      sums[#sums + 1] = name
      sums[#sums + 1] = account[name] + (past[name] or 0)
    end
    account[name] = nil
  end
  if past then write_numbers(usage_key(tenant, account.day), sums) end
  redis.call('HDEL', account_key(tenant), unpack(names))
  redis.call('ZADD', ROOT .. 'usage', today, today .. ' ' .. tenant)
  redis.call('HSET', account_key(tenant), 'day', today)
  account.day = today
end

-- The account of a tenant, of today, by the names of its numbers. It is read once by each call of a script.
local ACCOUNTS = {}
local function account_of(tenant)
  local account, today = ACCOUNTS[tenant], math.floor(now_ms() / DAY_MS)
  if account then return account end
  account = numbers_in(account_key(tenant))
  if account.day ~= today then begin_day(tenant, account, today) end
  ACCOUNTS[tenant] = account
  return account
end

-- Adds to the account of a tenant: name, number, name, number ...
local function count_for(tenant, ...)
  local account, changes, written = account_of(tenant), {...}, {}
  for i = 1, #changes, 2 do
    local name, number = changes[i], changes[i + 1]
    if number ~= 0 then
      account[name] = (account[name] or 0) + number
      written[#written + 1] = name
      written[#written + 1] = account[name]
    end
  end
  write_numbers(account_key(tenant), written)
end

-- Lists a tenant among those that have tasks or batches: see `tenants_tidy`.
local function list_tenant(tenant)
  if account_of(tenant).listed then return end
  redis.call('SADD', ROOT .. 'tenants', tenant)
  count_for(tenant, 'listed', 1)
end
