-- End an attempt. Only the holder of the lease may; the same call again (its answer was lost) is accepted again.
-- A success answers all equal tasks that have not started, too, and those that come as long as it is kept.
-- ARGV  1 verb  2 its moves  3 id  4 epoch  5 problem (JSON) or ''  6 outcome (JSON) or ''
--       7 wait ms before the next try: -1 there is none, 0 at once  8 failures to count
--       9 moves of reuse, or '' when there is no result  10 ms of the device that it took, or ''
-- Answers {'ok', state, 1 and how many equal tasks it answered} or {'fenced', state or ''}
local id, epoch, wait = ARGV[3], ARGV[4], tonumber(ARGV[7])
local receipt = ARGV[1] .. ' ' .. epoch
local f = redis.call('HMGET', task_key(id), 'state', 'receipt', 'reuse', 'model', 'cost')
if f[2] == receipt then return {'ok', f[1], 1} end
local to = target(ARGV[2], f[1])
if not to or not holds(id, epoch) then return {'fenced', f[1] or ''} end

local function answer_equals(digest)
  step_down(digest)
  local waiting = followers(f[4], digest)
  for _, follower in ipairs(waiting) do
    local ended = target(ARGV[9], redis.call('HGET', task_key(follower), 'state'))
    answer_from(id, follower, ended, 'coalesced', ARGV[6])
  end
  return #waiting
end

-- Two moving averages: their quotient is the time for a size, and no single odd task spoils it.
local function learn(model, cost, ms)
  local known = redis.call('HMGET', ROOT .. 'pace', 'ms:' .. model, 'cost:' .. model)
  local function mean(old, new) return old and old + (new - old) / 10 or new end
  redis.call('HSET', ROOT .. 'pace', 'ms:' .. model, mean(tonumber(known[1]), ms),
    'cost:' .. model, mean(tonumber(known[2]), cost))
end

log_attempt(id, ARGV[1], ARGV[5])
redis.call('HSET', task_key(id), 'receipt', receipt)
redis.call('HINCRBY', task_key(id), 'failures', ARGV[8])
if wait < 0 then
  local digest = ARGV[9] ~= '' and f[3]
  local others = digest and answer_equals(digest) or 0
  finish(id, to, ARGV[6])
  if ARGV[10] ~= '' then learn(f[4], tonumber(f[5]), tonumber(ARGV[10])) end
  if digest then redis.call('HSET', ROOT .. 'reuse', digest, id) end
  return {'ok', to, 1 + others}
end
part(id)
redis.call('ZREM', ROOT .. 'running', id)
move(id, to)
if wait == 0 then
  redis.call('HSET', task_key(id), 'stage', 'queued')
  requeue(id)
else
  redis.call('HSET', task_key(id), 'stage', 'retry')
  redis.call('ZADD', ROOT .. 'delayed', now_ms() + wait, id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. redis.call('HGET', task_key(id), 'model'))
end
return {'ok', to, 1}
