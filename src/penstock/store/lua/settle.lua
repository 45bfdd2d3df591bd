-- End an attempt. Only the holder of the lease may; the same call again (its answer was lost) is accepted again.
-- A success answers all equal tasks that have not started, too, and those that come as long as it is kept.
-- ARGV  1 verb  2 its moves  3 id  4 token  5 problem (JSON) or ''  6 outcome (JSON) or ''
--       7 wait ms before the next try: -1 there is none, 0 at once  8 failures to count
--       9 moves of reuse, or '' when there is no result  10 ms of the device that it took, or ''
-- Answers {'ok', state, 1 and how many equal tasks it answered, 1 when there are others} or {'fenced', state or ''}
local id, wait = ARGV[3], tonumber(ARGV[7])
local receipt = ARGV[1] .. ' ' .. ARGV[4]
local task = read_task(id)
if task.receipt == receipt then return {'ok', task.state, 1, 0} end
local to = target(ARGV[2], task.state)
if not to or token_of(task) ~= ARGV[4] or not end_lease(id) then return {'fenced', task.state or ''} end

-- It leads from now on whoever is equal, also who comes later.
local function answer_equals(digest)
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  if leader ~= id then
    if leader then step_down(leader, digest) end
    redis.call('HSET', ROOT .. 'reuse', digest, id)
  end
  local count, has_more = answer_followers(id, task.model, digest, ARGV[9], ARGV[6])
  if has_more then redis.call('SADD', ROOT .. 'answering', task.model .. ' ' .. digest) end
  return count, has_more
end

-- Two moving averages: their quotient is the time for a size, and no single odd task spoils it.
local function learn(model, cost, ms)
  local known = redis.call('HMGET', ROOT .. 'pace', 'ms:' .. model, 'cost:' .. model)
  local function mean(old, new) return old and old + (new - old) / 10 or new end
  redis.call('HSET', ROOT .. 'pace', 'ms:' .. model, mean(tonumber(known[1]), ms),
    'cost:' .. model, mean(tonumber(known[2]), cost))
end

log_attempt(task, ARGV[1], ARGV[5])
local failures, others, has_more = task.failures + ARGV[8], 0, false
if wait == 0 then
  put_back(task, to, 'receipt', receipt, 'failures', failures)
elseif wait > 0 then
  part(task)
  move(task, to, 'stage', 'retry', 'receipt', receipt, 'failures', failures)
  redis.call('ZADD', ROOT .. 'delayed', now_ms() + wait, id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)
else
  local digest = ARGV[9] ~= '' and task.reuse
  if digest then others, has_more = answer_equals(digest) else part(task) end
  close(task, to, ARGV[6], 'receipt', receipt, 'failures', failures)
  if ARGV[10] ~= '' then learn(task.model, tonumber(task.cost), tonumber(ARGV[10])) end
end
return {'ok', to, 1 + others, has_more and 1 or 0}
