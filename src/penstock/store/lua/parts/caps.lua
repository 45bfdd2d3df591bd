-- How many tasks of a tenant may run at once. The hash `caps` has the caps of single tenants and, as `*`, that of all
-- others; 0 is none. `capped` is on the board while `caps` is there: a claim reads it beside other fields, so that caps
-- cost nothing where there are none.
--
-- A tenant at its cap stays in `flows`, with an infinite start time: behind all others, so that a claim comes upon it
-- once and not again. `parked` has `<tenant> <pool>:<priority>` of each such place. The end of an attempt of the tenant
-- puts it back to its start time, but not before what is being served then, as a tenant that had nothing waiting.
local HAS_CAPS = false
local PARKED = math.huge

local CAPS = {}
local function cap_of(tenant)
  if not CAPS[tenant] then
    local found = redis.call('HMGET', ROOT .. 'caps', tenant, '*')
    CAPS[tenant] = sound_number(found[1] or found[2] or 0, 'cap')
  end
  return CAPS[tenant]
end

local function is_at_cap(tenant)
  local cap = cap_of(tenant)
  return cap > 0 and redis.call('ZCARD', ROOT .. 'state:' .. tenant .. ':' .. RUNNING) >= cap
end

local function park(pool, priority, tenant, start)
  redis.call('ZADD', flows_key(pool, priority), 'inf', tenant)
  set_field(pool_key(pool), 'f:' .. priority .. ':' .. tenant, start)
  redis.call('ZADD', ROOT .. 'parked', 0, tenant .. ' ' .. pool .. ':' .. priority)
end

-- Puts a tenant back everywhere, and wakes the workers there: each of a pool serves its first model. The next claim
-- parks the tenant again where it should.
local function unpark(tenant)
  local places = redis.call('ZRANGEBYLEX', ROOT .. 'parked', '[' .. tenant .. ' ', '(' .. tenant .. '!')
  local woken = {}
  for _, place in ipairs(places) do
    local pool, priority = string.match(place, ' (%x+):(%l+)$')
    local v, f = 'v:' .. priority, 'f:' .. priority .. ':' .. tenant
    local t = read_fields(pool_key(pool), v, f)
    redis.call('ZADD', flows_key(pool, priority), 'XX', 'LT', later_of(t[v], t[f]), tenant)
    local models = not woken[pool] and redis.call('HGET', ROOT .. 'pools', pool)
    if models then redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. string.match(models, '%S+')) end
    woken[pool] = true
  end
  if places[1] then redis.call('ZREM', ROOT .. 'parked', unpack(places)) end
end
