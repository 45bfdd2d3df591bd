-- In front of every script. ROOT starts every key; moves are text such as "PENDING>RUNNING RUNNING>FAILED",
-- so that no script knows the name of a state.
local ROOT = KEYS[1]

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- The state that `state` may move to, or nil.
local function target(moves, state)
  return state and string.match(moves, state .. '>(%u+)') or nil
end

local function task_key(id)
  return ROOT .. 'task:' .. id
end

local function queue_key(model, priority)
  return ROOT .. 'queue:' .. model .. ':' .. priority
end

-- State and index change together, always.
local function move(id, to)
  local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'created')
  redis.call('ZREM', ROOT .. 'state:' .. f[1] .. ':' .. f[2], id)
  redis.call('ZADD', ROOT .. 'state:' .. f[1] .. ':' .. to, f[3], id)
  redis.call('HSET', task_key(id), 'state', to)
end

-- Enter a final state: nothing of the task waits or runs any more, its deletion is scheduled, and who waits for its
-- end hears of it: on a channel of its own, so that no worker wakes up for it.
local function finish(id, to, outcome)
  local now = now_ms()
  local ttl_s = tonumber(redis.call('HGET', task_key(id), 'ttl_s'))
  move(id, to)
  redis.call('ZREM', ROOT .. 'running', id)
  redis.call('ZREM', ROOT .. 'starting', id)
  redis.call('ZREM', ROOT .. 'deadlines', id)
  redis.call('HSET', task_key(id), 'finished', now, 'stage', 'done')
  redis.call('ZADD', ROOT .. 'finals', now + ttl_s * 1000, id)
  if outcome ~= '' then
    redis.call('SET', ROOT .. 'outcome:' .. id, outcome)
  end
  redis.call('PUBLISH', ROOT .. 'ended', id)
end

-- Put a task that has waited its turn before at the head of its class: at the present virtual time, not behind
-- what came since.
local function requeue(id)
  local f = redis.call('HMGET', task_key(id), 'model', 'priority', 'vft')
  local v = tonumber(redis.call('HGET', ROOT .. 'clock:' .. f[2], 'v') or 0)
  redis.call('ZADD', queue_key(f[1], f[2]), math.min(v, tonumber(f[3])), id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. f[1])
end

-- Write down the attempt that ends now. `problem` is a JSON object or ''.
local function log_attempt(id, outcome, problem)
  local f = redis.call('HMGET', task_key(id), 'epoch', 'worker', 'device', 'claimed')
  local entry = cjson.encode({
    n = tonumber(f[1]), worker = f[2], device = f[3], started = tonumber(f[4]), ended = now_ms(), outcome = outcome,
  })
  if problem ~= '' then
    entry = string.sub(entry, 1, -2) .. ',"error":' .. problem .. '}'
  end
  redis.call('RPUSH', ROOT .. 'attempts:' .. id, entry)
end

-- Whether (id, epoch) still holds the lease.
local function holds(id, epoch)
  return redis.call('ZSCORE', ROOT .. 'running', id) and redis.call('HGET', task_key(id), 'epoch') == epoch
end
