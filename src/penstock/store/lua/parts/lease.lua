-- Who claimed a task has it for so long as this is true and the epoch of its record is still that of the claim.
local function is_leased(id)
  return redis.call('ZSCORE', ROOT .. 'running', id) and true
end

-- Answers whether there was one: whether the task ran.
local function end_lease(id)
  return redis.call('ZREM', ROOT .. 'running', id) == 1
end

-- Write down the attempt that ends now. `problem` is a JSON object or ''.
local function log_attempt(task, outcome, problem)
  local entry = cjson.encode({
    n = tonumber(task.epoch), worker = task.worker, device = task.device, started = tonumber(task.claimed),
    ended = now_ms(), outcome = outcome,
  })
  if problem ~= '' then
    entry = string.sub(entry, 1, -2) .. ',"error":' .. problem .. '}'
  end
  redis.call('RPUSH', ROOT .. 'attempts:' .. task.id, entry)
end
