-- Where tasks wait.
local function queue_key(model, priority)
  return ROOT .. 'queue:' .. model .. ':' .. priority
end

-- Since when and by whom a queue is paused, as JSON, or nothing.
local function pause_of(model, priority)
  return redis.call('HGET', ROOT .. 'paused', model .. ':' .. priority)
end

-- The keys of all queues that are paused -> true.
local function paused_queues()
  local paused = {}
  for _, queue in ipairs(redis.call('HKEYS', ROOT .. 'paused')) do paused[ROOT .. 'queue:' .. queue] = true end
  return paused
end

-- How many tasks of its model are served before it, or -1 when it is in no queue. Nothing of a paused class is served.
local function position_of(id, model, priority, priorities, paused)
  local ahead = redis.call('ZRANK', queue_key(model, priority), id)
  if not ahead then return -1 end
  for higher in string.gmatch(priorities, '%S+') do
    if higher == priority then break end
    local key = queue_key(model, higher)
    if not paused[key] then ahead = ahead + redis.call('ZCARD', key) end
  end
  return ahead
end

-- Take a waiting task out of where it waits.
local function withdraw(task)
  redis.call('ZREM', queue_key(task.model, task.priority), task.id)
  redis.call('ZREM', ROOT .. 'delayed', task.id)
end

-- Put a task that has waited its turn before at the head of its class: at the present virtual time, not behind
-- what came since.
local function requeue(task)
  local v = tonumber(redis.call('HGET', ROOT .. 'clock:' .. task.priority, 'v') or 0)
  redis.call('ZADD', queue_key(task.model, task.priority), math.min(v, tonumber(task.vft)), task.id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)
end
