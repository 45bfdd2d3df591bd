-- The answer to a worker that is to be given nothing, or nil: it is drained, or has given this claim up.
local function refusal_of_claim(worker, round)
  if redis.call('ZSCORE', ROOT .. 'drained', worker) then return {'', -1, 'drained'} end
  local next_round = redis.call('GET', ROOT .. 'round:' .. worker)
  return next_round and tonumber(round) < tonumber(next_round) and {'', -1} or nil
end

local function queue_due_retries()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'delayed', '-inf', now_ms(), 'LIMIT', 0, 50)) do
    redis.call('ZREM', ROOT .. 'delayed', id)
    redis.call('HSET', task_key(id), 'stage', 'queued')
    tell(id)
    requeue(read_task(id))
  end
end

-- The answer when nothing waits: ms until a delayed task is due, or -1.
local function nothing_to_claim()
  local due = redis.call('ZRANGE', ROOT .. 'delayed', 0, 0, 'WITHSCORES')[2]
  return {'', due and math.max(0, tonumber(due) - now_ms()) or -1}
end

-- {queue, id, score} of the task whose turn it is, and its class; nil when nothing waits. A class that was passed over
-- more often than `guard` says has its turn.
local function choose(models, priorities, guard)
  local paused, chosen, class = paused_queues(), nil, nil
  for priority in string.gmatch(priorities, '%S+') do
    local head
    for model in string.gmatch(models, '%S+') do
      local queue = queue_key(model, priority)
      local first = paused[queue] and {} or redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
      local score = tonumber(first[2])
      if score and (not head or score < head.score) then head = {queue = queue, id = first[1], score = score} end
    end
    if head and not chosen then
      chosen, class = head, priority
    elseif head and guard > 0 and redis.call('HINCRBY', ROOT .. 'clock:' .. priority, 'skipped', 1) > guard then
      return head, priority
    end
  end
  return chosen, class
end

-- How a task ends that is not to be started any more: 'overrun', 'expire', or nil.
local function lateness(task)
  if task.deadline and tonumber(task.deadline) <= now_ms() then return 'overrun' end
  return task.start_by and not task.started and tonumber(task.start_by) <= now_ms() and 'expire' or nil
end

-- How many ms of a device the task should take, by the pace of its model, as text; '' while nobody knows.
local function device_ms(task)
  local pace = redis.call('HMGET', ROOT .. 'pace', 'ms:' .. task.model, 'cost:' .. task.model)
  return pace[1] and tostring(pace[1] * task.cost / pace[2]) or ''
end

-- Give a chosen task to a worker. Answers what it is told.
local function give(chosen, priority, task, moves, worker, device, lease_ms, fence)
  local now, clock, epoch = now_ms(), ROOT .. 'clock:' .. priority, task.epoch + 1
  redis.call('ZREM', chosen.queue, task.id)
  local v = tonumber(redis.call('HGET', clock, 'v') or 0)
  redis.call('HSET', clock, 'v', math.max(v, chosen.score - tonumber(task.cost)), 'skipped', 0)
  move(task, target(moves, task.state), 'stage', 'fetch', 'epoch', epoch, 'fence', fence, 'worker', worker,
    'device', device, 'claimed', now, 'started', task.started or now)
  if task.total then redis.call('HDEL', task.key, 'done', 'total', 'unit') end
  if task.start_by then redis.call('ZREM', ROOT .. 'starting', task.id) end
  redis.call('ZADD', ROOT .. 'running', now + tonumber(lease_ms), task.id)
  return {task.id, epoch, task.tenant, task.caller, priority, task.failures, task.crashes, task.max_retries,
    task.timeout_s, math.max(0, now_us() - tonumber(task.created)), redis.call('GET', ROOT .. 'body:' .. task.id),
    task.eta or '', device_ms(task)}
end
