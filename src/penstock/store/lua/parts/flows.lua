-- Which caller is served next inside a priority: start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels, over
-- tenants and over the callers of each. Each caller with waiting tasks has a virtual start time in ms of a device; the
-- earliest is served. The expected device time of a task is added when it is claimed, and corrected when its attempt
-- has ended. So all callers with waiting tasks get equal device time, and none is owed the time when it had no task.
--
-- A *pool* is a set of models that some worker serves, and has a clock of its own for each priority: the time that a
-- caller uses on the devices of one pool delays none of its tasks in another. A task waits in one queue, for all pools
-- that have its model; only its caller is listed in each of them. A caller without waiting tasks is taken off the list
-- by the claim of the last one, or when a claim comes upon it, and is listed again with its next task.
--
-- `flows:<pool>:<priority>` has tenants by start time, `...:<tenant>` its callers. The hash `pool:<pool>` keeps the start
-- time of those that were taken off, or parked (see parts/caps), in `f:<priority>:<flow>`, the virtual time in
-- `v:<priority>`, and that of a tenant in `v:<priority>:<tenant>`.
local function flows_key(pool, priority)
  return ROOT .. 'flows:' .. pool .. ':' .. priority
end

local function callers_key(pool, priority, tenant)
  return flows_key(pool, priority) .. ':' .. tenant
end

local function pool_key(pool)
  return ROOT .. 'pool:' .. pool
end

-- The later of two moments of a clock, each false while there is none.
local function later_of(one, other)
  return math.max(tonumber(one or 0), tonumber(other or 0))
end

-- Lists a caller that has a waiting task, unless it is listed: it starts where it stopped, but not before what is being
-- served now.
local function enter(pool, priority, tenant, caller)
  local v, f = 'v:' .. priority, 'f:' .. priority .. ':' .. tenant
  local of_callers, of_caller = v .. ':' .. tenant, f .. '/' .. caller
  local t = read_fields(pool_key(pool), v, f, of_callers, of_caller)
  redis.call('ZADD', flows_key(pool, priority), 'NX', later_of(t[v], t[f]), tenant)
  redis.call('ZADD', callers_key(pool, priority, tenant), 'NX', later_of(t[of_callers], t[of_caller]), caller)
end

local function leave(pool, priority, set, member, flow, start)
  redis.call('ZREM', set, member)
  set_field(pool_key(pool), 'f:' .. priority .. ':' .. flow, start)
end

-- UNSEEN stands in front of all tenants while there are queues whose callers may not be listed in this pool, because it
-- is new or the queue was paused. `unseen:<pool>:<priority>` has the models of these queues, each with the last caller
-- that was looked at.
local UNSEEN = '*'
-- Callers that one claim lists: a queue may have any number of them, and each takes some commands of the claim.
local SEEN_TOGETHER = 20

local function unseen_key(pool, priority)
  return ROOT .. 'unseen:' .. pool .. ':' .. priority
end

local function look_through(pool, priority, model)
  redis.call('HSET', unseen_key(pool, priority), model, '')
  redis.call('ZADD', flows_key(pool, priority), '-inf', UNSEEN)
end

-- Lists some more of these callers. Answers whether all are.
local function look_further(pool, priority)
  local unseen = unseen_key(pool, priority)
  local model, last = unpack(redis.call('HGETALL', unseen))
  for _ = 1, SEEN_TOGETHER do
    local after = last == '' and '-' or '(' .. last .. '\11'
    local place = redis.call('ZRANGEBYLEX', queue_key(model, priority), after, '+', 'LIMIT', 0, 1)[1]
    if place then
      last = string.match(place, '^[^\n]+')
      enter(pool, priority, string.match(last, '^([^/]+)/(.*)$'))
    else
      redis.call('HDEL', unseen, model)
      model, last = unpack(redis.call('HGETALL', unseen))
      if not model then
        redis.call('ZREM', flows_key(pool, priority), UNSEEN)
        return true
      end
    end
  end
  redis.call('HSET', unseen, model, last)
  return false
end

-- LOOKS is what one claim may still look at, and LOOKS_IN_CLASS the most in one priority, so that it comes to the
-- others too: a look gives about five commands and one more for each model. HAS_MORE says whether something is left for
-- the next claim.
local LOOKS = 60
local LOOKS_IN_CLASS = 30
local HAS_MORE = false

-- The oldest task of a caller in the queues of these models, and whether it is the only one: {queue, place, is_last}, or
-- nil.
local function oldest(models, priority, flow, paused)
  local found, count = nil, 0
  for model in string.gmatch(models, '%S+') do
    local queue = queue_key(model, priority)
    local from, to = all_of(flow)
    local places = paused[queue] and {} or redis.call('ZRANGEBYLEX', queue, from, to, 'LIMIT', 0, 2)
    local place = places[1]
    count = count + #places
    if place and (not found or place < found.place) then found = {queue = queue, place = place} end
  end
  if found then found.is_last = count == 1 end
  return found
end

-- The caller whose turn it is in a priority of a pool, and its task: {priority, tenant, caller, flow, queue, place,
-- is_last, tenant_start, caller_start, is_alone}; nil when nothing waits. It `is_alone` that has no other callers beside it.
local function head_of(pool, models, priority, paused)
  local flows = flows_key(pool, priority)
  local first = redis.call('ZRANGE', flows, 0, 1, 'WITHSCORES')
  if first[1] == UNSEEN then
    HAS_MORE = not look_further(pool, priority) or HAS_MORE
    first = redis.call('ZRANGE', flows, 0, 1, 'WITHSCORES')
  end
  local least = math.max(0, LOOKS - LOOKS_IN_CLASS)
  while first[1] and LOOKS > least do
    LOOKS = LOOKS - 1
    local at = first[1] == UNSEEN and 3 or 1
    local tenant, tenant_start = first[at], tonumber(first[at + 1])
    if not tenant or tenant_start == PARKED then return end
    local callers = callers_key(pool, priority, tenant)
    local caller, caller_start, other = unpack(redis.call('ZRANGE', callers, 0, 1, 'WITHSCORES'))
    if not caller then
      leave(pool, priority, flows, tenant, tenant, tenant_start)
    elseif HAS_CAPS and is_at_cap(tenant) then
      park(pool, priority, tenant, tenant_start)
    else
      local flow = tenant .. '/' .. caller
      local found = oldest(models, priority, flow, paused)
      if found then
        found.priority, found.tenant, found.tenant_start, found.flow = priority, tenant, tenant_start, flow
        found.caller, found.caller_start, found.is_alone = caller, tonumber(caller_start), not other
        return found
      end
      leave(pool, priority, callers, caller, flow, caller_start)
    end
    first = redis.call('ZRANGE', flows, 0, 1, 'WITHSCORES')
  end
  if first[1] then HAS_MORE = true end
end

-- Charges the claim of a task: the clock advances to its start, and the next task of its owner starts so much later. Who
-- has no other task is taken off the list.
local function charge(pool, head, ms)
  local key, priority, tenant, flows = pool_key(pool), head.priority, head.tenant, flows_key(pool, head.priority)
  local v, callers = 'v:' .. priority, flows .. ':' .. tenant
  local of_callers = v .. ':' .. tenant
  local known = read_fields(key, v, of_callers)
  set_field(key, v, later_of(known[v], head.tenant_start))
  set_field(key, of_callers, later_of(known[of_callers], head.caller_start))
  local tenant_start, caller_start = head.tenant_start + ms, head.caller_start + ms
  if head.is_last then
    leave(pool, priority, callers, head.caller, head.flow, caller_start)
  else
    redis.call('ZADD', callers, caller_start, head.caller)
  end
  if head.is_last and head.is_alone then
    leave(pool, priority, flows, tenant, tenant, tenant_start)
  else
    redis.call('ZADD', flows, tenant_start, tenant)
  end
end

-- Corrects what an attempt was charged once it has ended and took so many ms of a device. An owner that is forgotten by
-- now has used nothing for longer than any attempt lasts (see `tidy`).
local function recharge(task, ms)
  local more = ms - sound_number(task.charged or ms, 'charged')
  local pool, priority, tenant = task.pool, task.priority, task.tenant
  if more == 0 then return end
  local key, kept = pool_key(pool), {}

  local function add(set, member, flow)
    local start_now = redis.call('ZADD', set, 'XX', 'INCR', more, member)
    if not start_now or tonumber(start_now) == PARKED then kept[#kept + 1] = 'f:' .. priority .. ':' .. flow end
  end

  add(flows_key(pool, priority), tenant, tenant)
  add(callers_key(pool, priority, tenant), task.caller, flow_of(task))
  if not kept[1] then return end
  local known = read_fields(key, unpack(kept))
  for _, field in ipairs(kept) do
    if known[field] then set_field(key, field, known[field] + more) end
  end
end
