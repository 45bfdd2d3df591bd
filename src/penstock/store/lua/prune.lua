-- Delete records whose time is over. The caller has deleted their objects first, so that none is orphaned.
-- ARGV  ids
-- Answers how many were deleted.
local count = 0
local now = now_ms()
for _, id in ipairs(ARGV) do
  local due = redis.call('ZSCORE', ROOT .. 'finals', id)
  if due and tonumber(due) <= now then
    local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'idem')
    redis.call('ZREM', ROOT .. 'finals', id)
    redis.call('ZREM', ROOT .. 'state:' .. f[1] .. ':' .. f[2], id)
    if f[3] then redis.call('DEL', ROOT .. 'idem:' .. f[3]) end
    redis.call('DEL', task_key(id), ROOT .. 'body:' .. id, ROOT .. 'outcome:' .. id, ROOT .. 'attempts:' .. id)
    count = count + 1
  end
end
return count
