-- Takes back the tasks of dead workers: those whose lease has ended, or all tasks of `dead_worker` when that is not ''.
-- After a pause of the reaper itself (Redis was frozen, restarted, or its clock jumped) every lease first gets one
-- full period, since a silent Redis must not look like the death of all workers, and the list of workers gets one too.
-- After a long one, or a jump ahead, nothing is deleted by time for a while either; and when the clock was set back, what
-- is due is moved back with it.
-- The death of a worker is a crash of the tasks that it ran, but not if it was stopping: then somebody ended it, such as
-- a machine that starts anew.
-- `lost_problem` and `poison_outcome` are JSON; `place` counts the running tasks, the last renewed first.
-- Answers {place to go on from or -1, id, state, model, ...}
-- takes: release_moves fail_moves lease_ms longest_pause_ms max_crashes dead_worker lost_problem poison_outcome place
-- needs: base.ROOT base.now_ms base.target clock.move_all clock.move_back clock.wait_before_deletes
--        counting.may_go_on lease.cut_off lease.end_lease task.finish task.put_back task.read_task task.task_key
--        worker.let_claim worker.was_stopping
local now, lease = now_ms(), tonumber(lease_ms)
local running = ROOT .. 'running'
local answer = {-1}

local function take_back(id)
  local task = read_task(id)
  if task.is_missing then return end_lease(id) end
  local to, crashes = target(release_moves, task.state), task.crashes + (was_stopping(task.worker) and 0 or 1)
  task.crashes = crashes
  end_lease(id)
  cut_off(task, 'lost', lost_problem)
  if crashes >= tonumber(max_crashes) then
    to = target(fail_moves, task.state)
    finish(task, to, poison_outcome, 'crashes', crashes)
  else
    put_back(task, to, 'crashes', crashes)
  end
  for _, value in ipairs({id, to, task.model}) do answer[#answer + 1] = value end
end

local function of_dead_worker(worker)
  place = tonumber(place)
  for _, id in ipairs(redis.call('ZREVRANGE', running, place, place + 499)) do
    if not may_go_on() then break end
    if redis.call('HGET', task_key(id), 'worker') == worker then take_back(id) else place = place + 1 end
  end
  redis.call('HDEL', ROOT .. 'workers', worker)
  redis.call('ZREM', ROOT .. 'workers:seen', worker)
  let_claim(worker)
  if place < redis.call('ZCARD', running) then answer[1] = place end
end

local function of_ended_leases()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, 100)) do
    answer[1] = 0
    if not may_go_on() then break end
    take_back(id)
  end
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'workers:seen', '-inf', now, 'LIMIT', 0, 100)) do
    redis.call('HDEL', ROOT .. 'workers', worker)
    redis.call('ZREM', ROOT .. 'workers:seen', worker)
  end
end

if dead_worker ~= '' then
  of_dead_worker(dead_worker)
  return answer
end
local last = tonumber(redis.call('GET', ROOT .. 'reaper') or now)
redis.call('SET', ROOT .. 'reaper', now)
if now < last then move_back(last - now) else wait_before_deletes(now - last) end
if now < last or now - last > tonumber(longest_pause_ms) then
  move_all(running, function() return now + lease end)
  move_all(ROOT .. 'workers:seen', function(seen) return math.max(seen, now + lease) end)
else
  of_ended_leases()
end
return answer
