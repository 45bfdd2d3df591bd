-- Pauses queues of a model in the name of `by`, or lets them go on when that is ''. Only claims pass over a paused
-- queue: running tasks go on, submits are taken, and limits of time are kept.
-- Answers how many queues have changed.
-- takes: model priorities by
-- needs: base.ROOT base.now_ms fields.BOARD fields.set_field flows.look_through pools.pools_with
local changed = 0
for priority in string.gmatch(priorities, '%S+') do
  local queue = model .. ':' .. priority
  if by == '' then
    changed = changed + redis.call('HDEL', ROOT .. 'paused', queue)
  else
    changed = changed + redis.call('HSETNX', ROOT .. 'paused', queue, cjson.encode({at = now_ms(), by = by}))
  end
end
local names = table.concat(redis.call('HKEYS', ROOT .. 'paused'), ' ')
set_field(BOARD, 'paused', names ~= '' and names)
if by == '' then
  for _, pool in ipairs(pools_with(model)) do
    for priority in string.gmatch(priorities, '%S+') do look_through(pool, priority, model) end
  end
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. model)
end
return changed
