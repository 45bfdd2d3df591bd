-- Who is served next inside a class: start-time fair queueing (Goyal, Vin, Cheng 1996) on two levels, over tenants and
-- over the callers of each. Everybody who has tasks waiting has a virtual start time in ms of a device; the earliest is
-- served, and what its task is taken to need is added when it is claimed, and set right when its attempt has ended. So
-- all who have tasks waiting get equal device time, and nobody has a claim on the time when he had none.
--
-- A *pool* is a set of models that some worker serves, and has a clock of its own for each class: what a caller uses on
-- the devices of one pool delays nothing that he wants of another. A task waits in one queue, for all pools that have
-- its model; only the callers stand in each of them. One who has nothing left to give is taken off when he is met, and
-- stands there again with his next task.
--
-- `flows:<pool>:<priority>` are tenants by start time, `...:<tenant>` its callers; of those that are taken off the hash
-- `clock:<pool>:<priority>` keeps it in `f:<flow>`. It has `v`, the virtual time, and `v:<tenant>`, too.
local function flows_key(pool, priority)
  return ROOT .. 'flows:' .. pool .. ':' .. priority
end

local function callers_key(pool, priority, tenant)
  return flows_key(pool, priority) .. ':' .. tenant
end

local function clock_key(pool, priority)
  return ROOT .. 'clock:' .. pool .. ':' .. priority
end

-- A caller has a task waiting: he starts where he stopped, but not before what is being served now.
local function enter(pool, priority, tenant, caller)
  local callers = callers_key(pool, priority, tenant)
  if redis.call('ZSCORE', callers, caller) then return end
  local t = redis.call('HMGET', clock_key(pool, priority), 'v', 'f:' .. tenant, 'v:' .. tenant,
    'f:' .. tenant .. '/' .. caller)
  redis.call('ZADD', flows_key(pool, priority), 'NX', math.max(tonumber(t[1] or 0), tonumber(t[2] or 0)), tenant)
  redis.call('ZADD', callers, math.max(tonumber(t[3] or 0), tonumber(t[4] or 0)), caller)
end

local function leave(pool, priority, set, member, flow, start)
  redis.call('ZREM', set, member)
  redis.call('HSET', clock_key(pool, priority), 'f:' .. flow, start)
end

-- In front of all tenants stands UNSEEN while there are queues whose callers may not stand in this pool: it is new, or
-- the queue was paused. `unseen:<pool>:<priority>` has the models of these, each with the last caller that was looked at.
local UNSEEN = '*'
local SEEN_TOGETHER = 20

local function unseen_key(pool, priority)
  return ROOT .. 'unseen:' .. pool .. ':' .. priority
end

local function look_through(pool, priority, model)
  redis.call('HSET', unseen_key(pool, priority), model, '')
  redis.call('ZADD', flows_key(pool, priority), '-inf', UNSEEN)
end

-- Let some more of them enter. Answers whether all have.
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

-- What one claim may still look at, in one class no more than so many, so that it comes to the others; and whether it
-- left something for the next one.
local LOOKS = 60
local LOOKS_IN_CLASS = 30
local HAS_MORE = false

-- The oldest task of a caller in the queues of these models: {queue, place}, or nil.
local function oldest(models, priority, flow, paused)
  local found
  for model in string.gmatch(models, '%S+') do
    local queue = queue_key(model, priority)
    local from, to = all_of(flow)
    local place = not paused[queue] and redis.call('ZRANGEBYLEX', queue, from, to, 'LIMIT', 0, 1)[1]
    if place and (not found or place < found.place) then found = {queue = queue, place = place} end
  end
  return found
end

-- Whose turn it is in a class of a pool, and the task: {priority, tenant, caller, queue, place, tenant_start,
-- caller_start}; nil when nothing waits.
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
    if not tenant then return end
    local callers = callers_key(pool, priority, tenant)
    local caller, caller_start = unpack(redis.call('ZRANGE', callers, 0, 0, 'WITHSCORES'))
    if not caller then
      leave(pool, priority, flows, tenant, tenant, tenant_start)
    else
      local flow = tenant .. '/' .. caller
      local found = oldest(models, priority, flow, paused)
      if found then
        found.priority, found.tenant, found.tenant_start = priority, tenant, tenant_start
        found.caller, found.caller_start = caller, tonumber(caller_start)
        return found
      end
      leave(pool, priority, callers, caller, flow, caller_start)
    end
    first = redis.call('ZRANGE', flows, 0, 1, 'WITHSCORES')
  end
  if first[1] then HAS_MORE = true end
end

-- A task is claimed: the clock goes on to where it starts, and who owns it starts so much later with his next one.
local function charge(pool, head, ms)
  local clock = clock_key(pool, head.priority)
  local v = redis.call('HMGET', clock, 'v', 'v:' .. head.tenant)
  redis.call('HSET', clock, 'v', math.max(tonumber(v[1] or 0), head.tenant_start), 'v:' .. head.tenant,
    math.max(tonumber(v[2] or 0), head.caller_start))
  redis.call('ZADD', flows_key(pool, head.priority), head.tenant_start + ms, head.tenant)
  redis.call('ZADD', callers_key(pool, head.priority, head.tenant), head.caller_start + ms, head.caller)
end

local function add(set, member, clock, flow, ms)
  if redis.call('ZADD', set, 'XX', 'INCR', ms, member) then return end
  local start = redis.call('HGET', clock, 'f:' .. flow)
  if start then redis.call('HSET', clock, 'f:' .. flow, start + ms) end
end

-- An attempt has ended, and took so many ms of a device: what it was charged is set right. Who is not known any more
-- has taken nothing for longer than any attempt lasts (see `tidy`).
local function recharge(task, ms)
  local more = ms - sound_number(task.charged or ms, 'charged')
  local pool, priority, tenant = task.pool, task.priority, task.tenant
  if more == 0 then return end
  local clock = clock_key(pool, priority)
  add(flows_key(pool, priority), tenant, clock, tenant, more)
  add(callers_key(pool, priority, tenant), task.caller, clock, flow_of(task), more)
end
