-- Pause queues of a model, or let them go on. Only the claim passes over a paused one: what runs goes on, submits are
-- taken, and limits of time are kept.
-- ARGV  1 model  2 priorities  3 who pauses them, or '' to let them go on
-- Answers how many have changed.
local changed = 0
for priority in string.gmatch(ARGV[2], '%S+') do
  local queue = ARGV[1] .. ':' .. priority
  if ARGV[3] == '' then
    changed = changed + redis.call('HDEL', ROOT .. 'paused', queue)
  else
    changed = changed + redis.call('HSETNX', ROOT .. 'paused', queue, cjson.encode({at = now_ms(), by = ARGV[3]}))
  end
end
if ARGV[3] == '' then
  for _, pool in ipairs(pools_with(ARGV[1])) do
    for priority in string.gmatch(ARGV[2], '%S+') do look_through(pool, priority, ARGV[1]) end
  end
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. ARGV[1])
end
return changed
