-- End an attempt. Only the holder of the lease may; the same call again (its answer was lost) is accepted again.
-- A success leads all equal tasks that have not started, and those that come as long as it is kept.
-- ARGV  1 verb  2 its moves  3 id  4 token  5 problem (JSON) or ''  6 outcome (JSON) or ''
--       7 wait ms before the next try: -1 there is none, 0 at once  8 failures to count
--       9 'result' when there is one, or ''  10 ms of the device that it took, or ''  11 its size in kilopixels, as seen by
--       the worker, or ''
-- Answers {'ok', state, `<model> <digest>` of those who wait for its result or ''} or {'fenced', state or ''}
local id, wait = ARGV[3], tonumber(ARGV[7])
local receipt = ARGV[1] .. ' ' .. ARGV[4]
local task = read_task(id)
if task.receipt == receipt then return {'ok', task.state, ''} end
local to = target(ARGV[2], task.state)
if not to or token_of(task) ~= ARGV[4] or not end_lease(id) then return {'fenced', task.state or ''} end

-- It leads from now on whoever is equal, also who comes later. Answers `<model> <digest>` when some wait for the result:
-- `answer` ends them.
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

local ms = tonumber(ARGV[10])
if ms and ARGV[9] ~= '' then ms = math.max(ms, SHORTEST_MS) end
end_attempt(task, ARGV[1], ARGV[5], ms)
local failures, waiting = task.failures + ARGV[8], ''
if wait == 0 then
  put_back(task, to, 'receipt', receipt, 'failures', failures)
elseif wait > 0 then
  part(task)
  move(task, to, 'stage', 'retry', 'receipt', receipt, 'failures', failures)
  redis.call('ZADD', ROOT .. 'delayed', now_ms() + wait, id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)
else
  local digest = ARGV[9] ~= '' and task.reuse
  if digest then waiting = lead_equals(digest) else part(task) end
  close(task, to, ARGV[6], 'receipt', receipt, 'failures', failures)
  if ms and ARGV[9] ~= '' then learn(task.model, tonumber(ARGV[11]) or sound_number(task.cost, 'cost'), ms) end
end
return {'ok', to, waiting}
