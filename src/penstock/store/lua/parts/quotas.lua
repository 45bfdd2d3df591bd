-- What a tenant may use, as the API says it with each call: `<name>=<number>` of each quota that it has, or ''.
local TRY_AGAIN_MS = 5000 -- when something has to end first, and nobody knows when it does

local function limits_of(quotas)
  local limits = {}
  for name, number in string.gmatch(quotas, '(%S+)=(%d+)') do limits[name] = tonumber(number) end
  return limits
end

-- The refusal of what would use so much of a quota; nil where the quota allows that, or the tenant has no such quota.
local function beyond(limits, name, amount, wait_ms)
  local limit = limits[name]
  return limit and amount > limit and {'quota', name, limit, wait_ms or TRY_AGAIN_MS} or nil
end

-- The same of so many more bytes in Redis.
local function beyond_redis(limits, tenant, bytes)
  return limits.redis_bytes and beyond(limits, 'redis_bytes', (account_of(tenant).redis or 0) + bytes)
end

-- The same of so many more bytes in the storage. A tenant that has as many as it may adds none: results are stored
-- whatever their size, so that it may have some more already.
local function beyond_storage(limits, tenant, bytes)
  local name = 'storage_bytes'
  return limits[name] and beyond(limits, name, (account_of(tenant).storage or 0) + math.max(1, bytes))
end

-- The same of a task that waits for a device and should take so many ms of it; `waiting` is the state of such tasks.
-- What the tenant has used today and what its unfinished tasks should take counts.
local function beyond_tasks(limits, tenant, waiting, ms)
  local is_full = limits.tasks_waiting and beyond(limits, 'tasks_waiting',
    redis.call('ZCARD', ROOT .. 'state:' .. tenant .. ':' .. waiting) + 1)
  if is_full or not limits.device_seconds_per_day then return is_full end
  local account, name = account_of(tenant), 'device_seconds_per_day'
  local used_ms = (account.device_ms or 0) + ms
  return beyond(limits, name, used_ms / 1000, DAY_MS - now_ms() % DAY_MS)
    or beyond(limits, name, (used_ms + (account.reserved_ms or 0)) / 1000)
end

-- The same of so many more unfinished lines of batches.
local function beyond_lines(limits, tenant, lines)
  return limits.batch_lines and beyond(limits, 'batch_lines', (account_of(tenant).lines or 0) + lines)
end

local function submits_key(tenant)
  return ROOT .. 'submits:' .. tenant
end
