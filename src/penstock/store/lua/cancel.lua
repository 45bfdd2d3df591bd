-- Cancel a task, waiting or running, at once. Its worker loses the lease with it and stops within one batch.
-- ARGV  1 moves of cancel  2 id  3 tenant
-- Answers {'ok'|'already'|'refused', state} or {'absent'}; canceling twice is fine.
local id = ARGV[2]
local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'model', 'priority')
if f[1] ~= ARGV[3] then return {'absent'} end
local to = target(ARGV[1], f[2])
if not to then
  local already = string.find(ARGV[1], '>' .. f[2], 1, true)
  return {already and 'already' or 'refused', f[2]}
end
if redis.call('ZSCORE', ROOT .. 'running', id) then
  log_attempt(id, 'cancel', '')
  redis.call('PUBLISH', ROOT .. 'signals', 'cancel ' .. id)
end
withdraw(id, f[3], f[4])
finish(id, to, '')
return {'ok', to}
