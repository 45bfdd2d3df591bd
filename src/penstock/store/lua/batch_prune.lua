-- Delete the records of batches whose time is over. The caller has deleted their parts first. Their tasks stay.
-- ARGV  1 ms for which a deleted batch is still known to have existed  2.. ids
-- Answers how many were deleted.
local count, now = 0, now_ms()
for i = 2, #ARGV do
  local id = ARGV[i]
  local due = redis.call('ZSCORE', ROOT .. 'closed', id)
  if due and tonumber(due) <= now then
    local f = redis.call('HMGET', batch_key(id), 'tenant', 'caller', 'idem', 'state', 'hook')
    redis.call('ZREM', ROOT .. 'closed', id)
    redis.call('ZREM', ROOT .. 'batches:' .. f[1], id)
    redis.call('SREM', ROOT .. 'unfinished:' .. f[2], id)
    if f[3] then redis.call('DEL', ROOT .. 'idem:' .. f[3]) end
    if f[5] then forget_events(id, f[5]) end
    redis.call('DEL', batch_key(id), open_key(id), ROOT .. 'plan:' .. id, ROOT .. 'ends:' .. id)
    if f[4] then redis.call('SET', ROOT .. 'gone:' .. id, f[1], 'PX', ARGV[1]) end
    count = count + 1
  end
end
return count
