-- Queue an ended task again: same id, attempts kept, failures and crashes forgotten, limits of time no longer set.
-- ARGV  1 moves of resubmit  2 id  3 tenant
-- Answers {'ok'|'waiting'|'refused', state} or {'absent'}; a task that waits or runs is left alone.
local id = ARGV[2]
local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'batch')
if f[1] ~= ARGV[3] then return {'absent'} end
local to = target(ARGV[1], f[2])
if not to then
  local live = redis.call('ZSCORE', ROOT .. 'finals', id) == false
  return {live and 'waiting' or 'refused', f[2]}
end
move(id, to)
redis.call('ZREM', ROOT .. 'finals', id)
redis.call('DEL', ROOT .. 'outcome:' .. id)
redis.call('HDEL', task_key(id), 'finished', 'start_by', 'deadline', 'receipt', 'done', 'total', 'unit')
redis.call('HSET', task_key(id), 'stage', 'queued', 'failures', 0, 'crashes', 0)
requeue(id)
local batch, place = batch_of(f[3])
if batch then reopen_line(batch, place) end
return {'ok', to}
