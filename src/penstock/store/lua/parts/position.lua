-- How many tasks of its model are served before one that waits. This is exact for a single caller. Beside few others it
-- follows their start times, as if all tasks of the model took the same time; beside many it counts as many tasks of
-- each of them as the caller has, and one more of each that starts before it. While callers may not be listed, it
-- counts all that wait.
local FEW = 3

-- The first flows of a sorted set, as name, start, name ...: all of them where they are few, and one more where not.
local function first_flows(set)
  return redis.call('ZRANGE', set, 0, FEW, 'WITHSCORES')
end

-- How many tasks of other flows of a sorted set are served before a task of the flow `me` with `own` tasks in front of
-- it. `found` are the first flows of the set, and `count` tells how many tasks a flow has waiting.
local function served_before(set, found, me, own, model, count)
  if #found == 2 and found[1] == me then return 0 end
  if #found > 2 * FEW then
    local rank, size = redis.call('ZRANK', set, me), redis.call('ZCARD', set)
    return rank and own * (size - 1) + rank or own * size + size
  end
  local ms, ahead, start = expected_ms(model, 0), 0, nil
  for i = 1, #found, 2 do start = found[i] == me and found[i + 1] or start end
  for i = 1, #found, 2 do
    if found[i] ~= me then
      local rounds = own + (start and (start - found[i + 1]) / ms or 0)
      local turns = found[i] < me and math.floor(rounds) + 1 or math.ceil(rounds)
      if turns > 0 then ahead = ahead + math.min(turns, count(found[i])) end
    end
  end
  return ahead
end

-- The same in one priority of a model: for a task of a caller with `own` of its tasks in front, `flow` of them in the
-- queue and `waiting` tasks in all.
local function ahead_in_class(model, priority, tenant, caller, own, flow, waiting)
  local others = waiting - flow
  if others == 0 then return own end
  local pool, queue = pools_with(model)[1], queue_key(model, priority)
  if not pool then return own + others end
  local flows, callers = flows_key(pool, priority), callers_key(pool, priority, tenant)
  local tenants = first_flows(flows)
  if tenants[1] == UNSEEN then return own + others end
  local ahead = served_before(callers, first_flows(callers), caller, own, model, function(other)
    return redis.call('ZLEXCOUNT', queue, all_of(tenant .. '/' .. other))
  end)
  ahead = ahead + served_before(flows, tenants, tenant, own + ahead, model, function(other)
    return redis.call('ZLEXCOUNT', queue, '[' .. other .. '/', '(' .. other .. '0')
  end)
  return own + math.min(others, ahead)
end

-- How many tasks of a model wait in higher priorities than this one. Paused queues are not served, and do not count.
local function waiting_above(model, priority, paused)
  local count = 0
  for higher in string.gmatch(PRIORITIES, '%S+') do
    if higher == priority then break end
    local queue = queue_key(model, higher)
    if not paused[queue] then count = count + redis.call('ZCARD', queue) end
  end
  return count
end

-- How many tasks are served before this one, or -1 when it is in no queue.
local function position_of(task, paused)
  local queue, place = queue_key(task.model, task.priority), place_of(task)
  if not redis.call('ZSCORE', queue, place) then return -1 end
  local own = redis.call('ZLEXCOUNT', queue, all_of(flow_of(task)), '(' .. place)
  local flow = redis.call('ZLEXCOUNT', queue, all_of(flow_of(task)))
  return waiting_above(task.model, task.priority, paused)
    + ahead_in_class(task.model, task.priority, task.tenant, task.caller, own, flow, redis.call('ZCARD', queue))
end

-- The fields of a record that say where the task waits, or nil when there is no such task.
local function waiting_task(id)
  local f = redis.call('HMGET', task_key(id), 'tenant', 'caller', 'model', 'priority', 'created')
  return f[1] and {id = id, tenant = f[1], caller = f[2], model = f[3], priority = f[4], created = f[5]} or nil
end
