-- Take back the tasks of dead workers: those whose lease has ended, or all of one worker known to be dead.
-- After a pause of the reaper itself (Redis was frozen, restarted, or its clock jumped) every lease first gets one
-- full period, since a silent Redis must not look like the death of all workers.
-- ARGV  1 moves of release  2 moves of fail  3 lease ms  4 longest pause ms  5 max crashes  6 dead worker or ''
--       7 problem 'worker lost' (JSON)  8 outcome 'poison' (JSON)
-- Answers {id, state, model, ...}
local now, lease = now_ms(), tonumber(ARGV[3])
local running = ROOT .. 'running'
local found = {}

if ARGV[6] ~= '' then
  for _, id in ipairs(redis.call('ZRANGE', running, 0, -1)) do
    if redis.call('HGET', task_key(id), 'worker') == ARGV[6] then found[#found + 1] = id end
  end
  redis.call('HDEL', ROOT .. 'workers', ARGV[6])
  redis.call('ZREM', ROOT .. 'workers:seen', ARGV[6])
  redis.call('ZREM', ROOT .. 'drained', ARGV[6])
else
  local last = tonumber(redis.call('GET', ROOT .. 'reaper') or now)
  redis.call('SET', ROOT .. 'reaper', now)
  if now - last > tonumber(ARGV[4]) or now < last then
    for _, id in ipairs(redis.call('ZRANGE', running, 0, -1)) do
      redis.call('ZADD', running, now + lease, id)
    end
    return {}
  end
  found = redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, 100)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'workers:seen', '-inf', now)) do
    redis.call('HDEL', ROOT .. 'workers', worker)
    redis.call('ZREM', ROOT .. 'workers:seen', worker)
  end
end

local answer = {}
for _, id in ipairs(found) do
  local task = read_task(id)
  local to, crashes = target(ARGV[1], task.state), task.crashes + 1
  end_lease(id)
  log_attempt(task, 'lost', ARGV[7])
  if crashes >= tonumber(ARGV[5]) then
    to = target(ARGV[2], task.state)
    finish(task, to, ARGV[8], 'crashes', crashes)
  else
    put_back(task, to, 'crashes', crashes)
  end
  answer[#answer + 1] = id
  answer[#answer + 1] = to
  answer[#answer + 1] = task.model
end
return answer
