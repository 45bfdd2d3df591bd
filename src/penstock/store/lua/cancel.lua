-- Cancels a task, waiting or running, at once. Its worker loses the lease and stops within one device batch. Canceling
-- twice is fine.
-- Answers {'ok'|'already'|'refused', state} {'gone'} or {'absent'}
-- takes: moves id tenant
-- needs: base.ROOT base.target gone.is_gone lease.cut_off lease.end_lease lease.token_of queue.withdraw task.finish
--        task.read_task
local task = read_task(id)
if not task.tenant and is_gone(id, tenant) then return {'gone'} end
if task.tenant ~= tenant then return {'absent'} end
local to = target(moves, task.state)
if not to then
  local already = string.find(moves, '>' .. task.state, 1, true)
  return {already and 'already' or 'refused', task.state}
end
if end_lease(id) then
  cut_off(task, 'cancel', '')
  redis.call('PUBLISH', ROOT .. 'signals', 'cancel ' .. id .. ' ' .. token_of(task))
end
withdraw(task)
finish(task, to, '')
return {'ok', to}
