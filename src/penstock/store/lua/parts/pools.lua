-- `pools` has the models of each pool, `pools:seen` the ms when a worker with exactly these models renewed last. On the
-- board are the pools with each model, behind a blank each. There are few pools: every enqueue looks at all of those.
local MOST_POOLS = 32
local POOL_KEPT_MS = 3600000

-- The name of the pool of these models, which are sorted.
local function pool_of(models)
  return string.sub(redis.sha1hex(models), 1, 8)
end

local function pools_with(model)
  local found = {}
  for pool in string.gmatch(field_of(BOARD, 'pools:' .. model) or '', '%S+') do found[#found + 1] = pool end
  return found
end

local function take_off_board(pool, models)
  for model in string.gmatch(models, '%S+') do
    local others = string.gsub(field_of(BOARD, 'pools:' .. model) or '', ' ' .. pool, '')
    set_field(BOARD, 'pools:' .. model, others ~= '' and others)
  end
end

local function drop_pool(pool)
  for priority in string.gmatch(PRIORITIES, '%S+') do
    local flows = flows_key(pool, priority)
    for _, tenant in ipairs(redis.call('ZRANGE', flows, 0, -1)) do
      redis.call('DEL', callers_key(pool, priority, tenant))
    end
    redis.call('DEL', flows, unseen_key(pool, priority))
  end
  take_off_board(pool, redis.call('HGET', ROOT .. 'pools', pool) or '')
  redis.call('DEL', pool_key(pool))
  redis.call('HDEL', ROOT .. 'pools', pool)
  redis.call('ZREM', ROOT .. 'pools:seen', pool)
end

-- Makes the pool of these models, which a worker serves, unless it is on the board. Answers whether it is new.
local function open_pool(models)
  local pool, first = pool_of(models), string.match(models, '%S+')
  if not first or string.find(field_of(BOARD, 'pools:' .. first) or '', pool, 1, true) then return false end
  local seen = ROOT .. 'pools:seen'
  if redis.call('ZCARD', seen) >= MOST_POOLS then drop_pool(redis.call('ZRANGE', seen, 0, 0)[1]) end
  redis.call('HSET', ROOT .. 'pools', pool, models)
  redis.call('ZADD', seen, now_ms(), pool)
  for model in string.gmatch(models, '%S+') do
    set_field(BOARD, 'pools:' .. model, (field_of(BOARD, 'pools:' .. model) or '') .. ' ' .. pool)
    for priority in string.gmatch(PRIORITIES, '%S+') do look_through(pool, priority, model) end
  end
  return true
end
