-- The token of a lease is `<epoch>-<fence>`. The epoch counts the claims of a task; the fence is a random word for each
-- of them, so that a Redis that has lost its last writes, and counts the same number again, gives no second lease that
-- looks like the first.
local function token_of(task)
  return task.fence and task.epoch .. '-' .. task.fence
end

-- Whether a lease with this token is the current one. `f` is {epoch, fence} of the record.
local function holds(id, f, token)
  return f[2] and f[1] .. '-' .. f[2] == token and redis.call('ZSCORE', ROOT .. 'running', id) and true
end

-- Ends the lease of a task. Answers whether there was one, that is, whether the task ran.
local function end_lease(id)
  return redis.call('ZREM', ROOT .. 'running', id) == 1
end

-- Writes down an attempt that ends now, counts its device time, and corrects what its owner was charged. `problem` is a JSON object or '', `ms`
-- the device time of the attempt, nil where its worker does not say.
local function end_attempt(task, outcome, problem, ms)
  ms = ms or taken_ms(task)
  recharge(task, ms)
  note(task, 'device_ms', ms)
  if task.capped then unpark(task.tenant) end
  local entry = cjson.encode({
    n = tonumber(task.epoch), fence = task.fence, worker = task.worker, device = task.device,
    started = tonumber(task.claimed), ended = now_ms(), outcome = outcome,
  })
  if problem ~= '' then
    entry = string.sub(entry, 1, -2) .. ',"error":' .. problem .. '}'
  end
  entry = entry .. '\n'
  local key = ROOT .. 'attempts:' .. task.id
  local earlier = task.epoch ~= '1' and redis.call('GET', key) or ''
  write_with(task, key, earlier .. entry)
  grow(task, #entry)
end

-- Ends an attempt without its worker, which may still be storing a result: that is looked for again when the task is
-- deleted.
local function cut_off(task, outcome, problem)
  redis.call('HSET', task.key, 'cut_off', now_ms())
  end_attempt(task, outcome, problem)
end
