-- Cancel a task, waiting or running, at once. Its worker loses the lease with it and stops within one batch.
-- ARGV  1 moves of cancel  2 id  3 tenant
-- Answers {'ok'|'already'|'refused', state} {'gone'} or {'absent'}; canceling twice is fine.
local id = ARGV[2]
local task = read_task(id)
if not task.tenant and is_gone(id, ARGV[3]) then return {'gone'} end
if task.tenant ~= ARGV[3] then return {'absent'} end
local to = target(ARGV[1], task.state)
if not to then
  local already = string.find(ARGV[1], '>' .. task.state, 1, true)
  return {already and 'already' or 'refused', task.state}
end
if end_lease(id) then
  cut_off(task, 'cancel', '')
  redis.call('PUBLISH', ROOT .. 'signals', 'cancel ' .. id .. ' ' .. token_of(task))
end
withdraw(task)
finish(task, to, '')
return {'ok', to}
