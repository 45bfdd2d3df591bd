-- Queue an ended task again: same id, attempts kept, failures and crashes forgotten, limits of time no longer set.
-- ARGV  1 moves of resubmit  2 id  3 tenant
-- Answers {'ok'|'waiting'|'refused', state}, {'gone'} or {'absent'}; a task that waits or runs is left alone.
local id = ARGV[2]
local task = read_task(id)
if not task.tenant and is_gone(id, ARGV[3]) then return {'gone'} end
if task.tenant ~= ARGV[3] then return {'absent'} end
local to = target(ARGV[1], task.state)
if not to then
  local live = redis.call('ZSCORE', ROOT .. 'finals', id) == false
  return {live and 'waiting' or 'refused', task.state}
end
local batch, place = move(task, to, 'stage', 'queued', 'failures', 0, 'crashes', 0)
redis.call('ZREM', ROOT .. 'finals', id)
redis.call('DEL', ROOT .. 'outcome:' .. id)
redis.call('HDEL', task.key, 'finished', 'start_by', 'deadline', 'receipt', 'done', 'total', 'unit', 'eta')
enqueue(task)
if batch then reopen_line(batch, place) end
return {'ok', to}
