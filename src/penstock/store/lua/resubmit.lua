-- Queues an ended task again: the id and the attempts stay, failures, crashes and limits of time are forgotten.
-- `quotas` are those of the tenant (see parts/quotas).
-- Answers {'ok'|'waiting'|'refused', state}, {'gone'} or {'absent'}; a task that waits or runs is left alone.
--         {'quota', its name, what it allows, retry after ms}
-- takes: moves id tenant quotas
-- needs: base.ROOT base.target batch.reopen_line gone.is_gone held.grow held.held_by held.note queue.enqueue
--        quotas.beyond_lines quotas.beyond_redis quotas.beyond_storage quotas.beyond_tasks quotas.limits_of task.move
--        task.read_task
local task = read_task(id)
if not task.tenant and is_gone(id, tenant) then return {'gone'} end
if task.tenant ~= tenant then return {'absent'} end
local to = target(moves, task.state)
if not to then
  local live = redis.call('ZSCORE', ROOT .. 'finals', id) == false
  return {live and 'waiting' or 'refused', task.state}
end
local limits = limits_of(quotas)
local is_beyond = quotas ~= '' and (beyond_redis(limits, tenant, 0) or beyond_storage(limits, tenant, 0)
  or task.batch and beyond_lines(limits, tenant, 1) or beyond_tasks(limits, tenant, to, held_by(task).reserved))
if is_beyond then return is_beyond end
local outcome_bytes, held = redis.call('STRLEN', ROOT .. 'outcome:' .. id), held_by(task)
grow(task, -outcome_bytes)
note(task, 'reserved_ms', held.reserved)
note(task, 'submitted', 1)
local batch, place = move(task, to, 'stage', 'queued', 'failures', 0, 'crashes', 0)
redis.call('ZREM', ROOT .. 'finals', id)
if task.inline then redis.call('ZREM', ROOT .. 'inline:ended', id) end
redis.call('DEL', ROOT .. 'outcome:' .. id)
redis.call('HDEL', task.key, 'finished', 'start_by', 'deadline', 'receipt', 'done', 'total', 'unit', 'took',
  'eta')
enqueue(task)
if batch then reopen_line(batch, place) end
return {'ok', to}
