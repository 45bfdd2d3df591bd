-- Take the next task, unless the worker is drained: highest priority first, a passed-over class after `guard` claims,
-- inside a class the lowest virtual finish time over all models the worker runs and no pause holds back. Running tasks
-- are in no queue, so none is ever scanned past.
-- ARGV  1 moves of claim  2 moves of expire  3 worker  4 device  5 lease ms  6 guard  7 models  8 priorities
--       9 outcome of an expired task (JSON)
-- Answers  {id, epoch, tenant, caller, priority, failures, crashes, max retries, timeout s, waited µs, body,
--           ms in which a client was promised its end, or ''}
--          {'', ms until a delayed task is due, or -1}   {'', -1, 'drained'}
if redis.call('ZSCORE', ROOT .. 'drained', ARGV[3]) then return {'', -1, 'drained'} end
local now = now_ms()

for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'delayed', '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', ROOT .. 'delayed', id)
  redis.call('HSET', task_key(id), 'stage', 'queued')
  tell(id)
  requeue(id)
end

local paused = {}
for _, queue in ipairs(redis.call('HKEYS', ROOT .. 'paused')) do paused[ROOT .. 'queue:' .. queue] = true end

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

for _ = 1, 100 do
  local chosen, priority = choose()
  if not chosen then break end
  local key, id, score = chosen[1], chosen[2], chosen[3]
  redis.call('ZREM', key, id)
  local f = redis.call('HMGET', task_key(id), 'state', 'start_by', 'started', 'tenant', 'caller', 'failures',
    'crashes', 'max_retries', 'timeout_s', 'created', 'cost', 'eta')
  local to = target(ARGV[1], f[1])
  if to and f[2] and not f[3] and tonumber(f[2]) <= now then
    finish(id, target(ARGV[2], f[1]), ARGV[9])
  elseif to then
    local clock = ROOT .. 'clock:' .. priority
    local v = tonumber(redis.call('HGET', clock, 'v') or 0)
    redis.call('HSET', clock, 'v', math.max(v, score - tonumber(f[11])), 'skipped', 0)
    local epoch = redis.call('HINCRBY', task_key(id), 'epoch', 1)
    move(id, to)
    redis.call('HSET', task_key(id), 'worker', ARGV[3], 'device', ARGV[4], 'stage', 'fetch', 'claimed', now,
      'started', f[3] or now)
    redis.call('HDEL', task_key(id), 'done', 'total', 'unit')
    redis.call('ZREM', ROOT .. 'starting', id)
    redis.call('ZADD', ROOT .. 'running', now + tonumber(ARGV[5]), id)
    return {id, epoch, f[4], f[5], priority, f[6], f[7], f[8], f[9], now_us() - tonumber(f[10]),
      redis.call('GET', ROOT .. 'body:' .. id), f[12] or ''}
  end
end

local due = redis.call('ZRANGE', ROOT .. 'delayed', 0, 0, 'WITHSCORES')[2]
return {'', due and math.max(0, tonumber(due) - now) or -1}
