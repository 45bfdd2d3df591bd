-- Extends the leases of one worker, each given as id, token, all in one call, and notes that the worker lives.
-- A `description` (JSON) of '' signs the worker off; `models` are sorted, and '' where none can run.
-- Answers 'id token' of each lease that is lost.
-- takes: worker description lease_ms models leases...
-- needs: base.ROOT base.now_ms lease.holds pools.open_pool pools.pool_of task.task_key worker.let_claim
local now = now_ms()
if description == '' then
  redis.call('HDEL', ROOT .. 'workers', worker)
  redis.call('ZREM', ROOT .. 'workers:seen', worker)
  let_claim(worker)
else
  redis.call('HSET', ROOT .. 'workers', worker, description)
  redis.call('ZADD', ROOT .. 'workers:seen', now + tonumber(lease_ms), worker)
  if models ~= '' then
    open_pool(models)
    redis.call('ZADD', ROOT .. 'pools:seen', now, pool_of(models))
  end
end
local lost = {}
for i = 1, #leases, 2 do
  local id, token = leases[i], leases[i + 1]
  if holds(id, redis.call('HMGET', task_key(id), 'epoch', 'fence'), token) then
    redis.call('ZADD', ROOT .. 'running', now + tonumber(lease_ms), id)
  else
    lost[#lost + 1] = id .. ' ' .. token
  end
end
return lost
