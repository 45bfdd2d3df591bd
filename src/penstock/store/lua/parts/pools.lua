-- `pools` has the models of each pool, `pools:seen` the ms when a worker with exactly these models renewed last. There
-- are few pools: every enqueue looks at all of them.
local MOST_POOLS = 32
local POOL_KEPT_MS = 3600000

-- The name of the pool of these models, which are sorted.
local function pool_of(models)
  return string.sub(redis.sha1hex(models), 1, 8)
end

local POOLS
local function pools_with(model)
  POOLS = POOLS or redis.call('HGETALL', ROOT .. 'pools')
  local found, known = {}, POOLS
  for i = 1, #known, 2 do
    if string.find(' ' .. known[i + 1] .. ' ', ' ' .. model .. ' ', 1, true) then found[#found + 1] = known[i] end
  end
  return found
end

local function drop_pool(pool)
  for priority in string.gmatch(PRIORITIES, '%S+') do
    local flows = flows_key(pool, priority)
    for _, tenant in ipairs(redis.call('ZRANGE', flows, 0, -1)) do
      redis.call('DEL', callers_key(pool, priority, tenant))
    end
    redis.call('DEL', flows, clock_key(pool, priority), unseen_key(pool, priority))
  end
  redis.call('DEL', ROOT .. 'passed:' .. pool)
  redis.call('HDEL', ROOT .. 'pools', pool)
  redis.call('ZREM', ROOT .. 'pools:seen', pool)
end

-- Makes the pool of these models, which a worker serves, unless it is there. Answers its name.
local function open_pool(models)
  local pool = pool_of(models)
  if redis.call('HSETNX', ROOT .. 'pools', pool, models) == 0 then return pool end
  local seen = ROOT .. 'pools:seen'
  if redis.call('ZCARD', seen) >= MOST_POOLS then drop_pool(redis.call('ZRANGE', seen, 0, 0)[1]) end
  redis.call('ZADD', seen, now_ms(), pool)
  for priority in string.gmatch(PRIORITIES, '%S+') do
    for model in string.gmatch(models, '%S+') do look_through(pool, priority, model) end
  end
  return pool
end
