-- Ends an attempt. Only the holder of the lease may; the same call again (its answer was lost) is accepted again.
-- A success leads all equal tasks that have not started, and those that come as long as it is kept.
-- `problem` and `outcome` are JSON or ''; the next try comes after `wait_ms`: -1 for none, 0 for at once; `failures`
-- are added to those of the task; `result` is 'result' when there is one, and `file_bytes` the size of its files; `device_ms` and `size` (kilopixels) are what
-- the worker has seen, or ''; `log` is what the model has said, or ''.
-- Answers {'ok', state, `<model> <digest>` of those who wait for its result or ''} or {'fenced', state or ''}
-- takes: verb moves id token problem outcome wait_ms failures result file_bytes device_ms size log
-- needs: base.ROOT base.now_ms base.sound_number base.target held.grow held.held_by held.note lease.end_attempt
--        lease.end_lease lease.token_of log.append_log pace.SHORTEST_MS pace.learn reuse.equal_to reuse.following_key
--        reuse.leave_reuse_group reuse.step_down task.finish_record task.move task.put_back task.read_task
local wait = tonumber(wait_ms)
local receipt = verb .. ' ' .. token
local task = read_task(id)
if task.receipt == receipt then return {'ok', task.state, ''} end
local to = target(moves, task.state)
if not to or token_of(task) ~= token or not end_lease(id) then return {'fenced', task.state or ''} end

-- The task leads all equal ones from now on, also those that come later. Answers `<model> <digest>` when some wait for
-- its result: `answer` ends them.
local function lead_equals(digest)
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  if leader ~= id then
    if leader then step_down(leader, digest) end
    redis.call('HSET', ROOT .. 'reuse', digest, id)
  end
  if redis.call('ZLEXCOUNT', following_key(task.model), equal_to(digest)) == 0 then return '' end
  local waiting = task.model .. ' ' .. digest
  redis.call('SADD', ROOT .. 'answering', waiting)
  return waiting
end

local ms = tonumber(device_ms)
if ms and result ~= '' then ms = math.max(ms, SHORTEST_MS) end
end_attempt(task, verb, problem, ms)
if log ~= '' then grow(task, append_log(id, log)) end
local failures, waiting = task.failures + failures, ''
if wait == 0 then
  put_back(task, to, 'receipt', receipt, 'failures', failures)
elseif wait > 0 then
  leave_reuse_group(task)
  move(task, to, 'stage', 'retry', 'receipt', receipt, 'failures', failures)
  redis.call('ZADD', ROOT .. 'delayed', now_ms() + wait, id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)
else
  local digest = result ~= '' and task.reuse
  if digest then waiting = lead_equals(digest) else leave_reuse_group(task) end
  held_by(task).result = tonumber(file_bytes)
  note(task, 'storage', tonumber(file_bytes))
  finish_record(task, to, outcome, 'receipt', receipt, 'failures', failures)
  if ms and result ~= '' then learn(task.model, tonumber(size) or sound_number(task.cost, 'cost'), ms) end
end
return {'ok', to, waiting}
