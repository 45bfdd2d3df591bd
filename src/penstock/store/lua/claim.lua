-- Take the next task, unless the worker is drained: highest priority first, a passed-over class after `guard` claims,
-- inside a class the lowest virtual finish time over all models the worker runs and no pause holds back. Running tasks
-- are in no queue, so none is ever scanned past.
-- ARGV  1 moves of claim  2 moves of expire  3 worker  4 device  5 lease ms  6 guard  7 models  8 priorities
--       9 outcome of an expired task (JSON)  10 moves of overrun  11 outcome of one past its deadline (JSON)
--      12 fence: a word that no other claim has  13 round of the worker's claims
-- Answers  {id, epoch, tenant, caller, priority, failures, crashes, max retries, timeout s, waited µs, body,
--           ms in which a client was promised its end, or ''}
--          {'', ms until a delayed task is due, or -1}   {'', -1, 'drained'}
--          {'', 0} when it has met so many late tasks that others should have their turn: ask again at once
if redis.call('ZSCORE', ROOT .. 'drained', ARGV[3]) then return {'', -1, 'drained'} end
local round = redis.call('GET', ROOT .. 'round:' .. ARGV[3])
if round and tonumber(ARGV[13]) < tonumber(round) then return {'', -1} end -- the worker has given this claim up
local now = now_ms()

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'delayed', '-inf', now, 'LIMIT', 0, 50)) do
  redis.call('ZREM', ROOT .. 'delayed', id)
  redis.call('HSET', task_key(id), 'stage', 'queued')
  tell(id)
  requeue(read_task(id))
end

local paused = paused_queues()

-- {queue key, id, score} of the task that this class would serve, or nil.
local function head(priority)
  local best
  for model in string.gmatch(ARGV[7], '%S+') do
    local key = queue_key(model, priority)
    local first = paused[key] and {} or redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] and (not best or tonumber(first[2]) < best[3]) then
      best = {key, first[1], tonumber(first[2])}
    end
  end
  return best
end

local function choose()
  local chosen, class
  local guard = tonumber(ARGV[6])
  for priority in string.gmatch(ARGV[8], '%S+') do
    local candidate = head(priority)
    if candidate and not chosen then
      chosen, class = candidate, priority
    elseif candidate and guard > 0 then
      if redis.call('HINCRBY', ROOT .. 'clock:' .. priority, 'skipped', 1) > guard then
        return candidate, priority
      end
    end
  end
  return chosen, class
end

while may_go_on() do
  local chosen, priority = choose()
  if not chosen then
    local due = redis.call('ZRANGE', ROOT .. 'delayed', 0, 0, 'WITHSCORES')[2]
    return {'', due and math.max(0, tonumber(due) - now) or -1}
  end
  local key, id, score = unpack(chosen)
  redis.call('ZREM', key, id)
  local task = read_task(id)
  local to = target(ARGV[1], task.state)
  if to and task.deadline and tonumber(task.deadline) <= now then
    finish(task, target(ARGV[10], task.state), ARGV[11])
  elseif to and task.start_by and not task.started and tonumber(task.start_by) <= now then
    finish(task, target(ARGV[2], task.state), ARGV[9])
  elseif to then
    local clock = ROOT .. 'clock:' .. priority
    local v = tonumber(redis.call('HGET', clock, 'v') or 0)
    redis.call('HSET', clock, 'v', math.max(v, score - tonumber(task.cost)), 'skipped', 0)
    local epoch = task.epoch + 1
    move(task, to, 'stage', 'fetch', 'epoch', epoch, 'fence', ARGV[12], 'worker', ARGV[3], 'device', ARGV[4], 'claimed', now,
      'started', task.started or now)
    if task.total then redis.call('HDEL', task.key, 'done', 'total', 'unit') end
    if task.start_by then redis.call('ZREM', ROOT .. 'starting', id) end
    redis.call('ZADD', ROOT .. 'running', now + tonumber(ARGV[5]), id)
    return {id, epoch, task.tenant, task.caller, priority, task.failures, task.crashes, task.max_retries,
      task.timeout_s, math.max(0, now_us() - tonumber(task.created)), redis.call('GET', ROOT .. 'body:' .. id), task.eta or ''}
  end
end

return {'', 0}
