-- Queues. Their members are sorted by their bytes: `<tenant>/<caller>`, a line feed, the µs when the task was created,
-- its id. So the tasks of one caller lie together, the oldest first, and one that is put back has its old place. `task`
-- is a record, or has these fields of one: id tenant caller model priority created.
local function queue_key(model, priority)
  return ROOT .. 'queue:' .. model .. ':' .. priority
end

local function flow_of(task)
  return task.tenant .. '/' .. task.caller
end

local function place_of(task)
  return flow_of(task) .. '\n' .. string.format('%016.0f', tonumber(task.created)) .. ' ' .. task.id
end

-- The bounds of all tasks of one caller: a vertical tab is the character after the line feed.
local function all_of(flow)
  return '[' .. flow .. '\n', '(' .. flow .. '\11'
end

-- Since when and by whom a queue is paused, as JSON, or nothing.
local function pause_of(model, priority)
  return redis.call('HGET', ROOT .. 'paused', model .. ':' .. priority)
end

-- The keys of all queues that are paused -> true. Their names are on the board, beside what else is read there.
local function paused_queues()
  local paused = {}
  for queue in string.gmatch(field_of(BOARD, 'paused') or '', '%S+') do paused[ROOT .. 'queue:' .. queue] = true end
  return paused
end

-- Puts a task into its queue, and lists its caller in every pool that could run it, unless one of its tasks waits there
-- already: then it is listed, but for a paused queue. Answers how many tasks of the caller are in the queue.
local function enqueue(task)
  local queue = queue_key(task.model, task.priority)
  redis.call('ZADD', queue, 0, place_of(task))
  local count = redis.call('ZLEXCOUNT', queue, all_of(flow_of(task)))
  if count == 1 or paused_queues()[queue] then
    for _, pool in ipairs(pools_with(task.model)) do enter(pool, task.priority, task.tenant, task.caller) end
  end
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)
  return count
end

-- Takes a waiting task out of its queue. Answers whether it was there.
local function dequeue(task)
  return redis.call('ZREM', queue_key(task.model, task.priority), place_of(task)) == 1
end

-- Takes a waiting task out of its queue, or from among the delayed ones.
local function withdraw(task)
  dequeue(task)
  redis.call('ZREM', ROOT .. 'delayed', task.id)
end
