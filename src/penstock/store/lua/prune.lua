-- Delete records whose time is over. The caller has deleted their objects first, so that none is orphaned, but for
-- results that other records show too.
-- ARGV  1 ms for which a deleted task is still known to have existed  2.. ids
-- Answers how many were deleted.
local count = 0
local now = now_ms()
for i = 2, #ARGV do
  local id = ARGV[i]
  local due = redis.call('ZSCORE', ROOT .. 'finals', id)
  if due and tonumber(due) <= now then
    local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'idem', 'reuse', 'origin', 'upload',
      'hook')
    redis.call('ZREM', ROOT .. 'finals', id)
    redis.call('ZREM', ROOT .. 'state:' .. f[1] .. ':' .. f[2], id)
    if f[3] then redis.call('DEL', ROOT .. 'idem:' .. f[3]) end
    if f[4] and redis.call('HGET', ROOT .. 'reuse', f[4]) == id then redis.call('HDEL', ROOT .. 'reuse', f[4]) end
    local origin, shared = f[5] or id, ROOT .. 'shared'
    if redis.call('HEXISTS', shared, origin) == 1 and redis.call('HINCRBY', shared, origin, -1) == 0 then
      redis.call('HDEL', shared, origin)
    end
    if f[6] then disuse_upload(f[6]) end
    if f[7] then forget_events(id, f[7]) end
    redis.call('DEL', task_key(id), ROOT .. 'body:' .. id, ROOT .. 'outcome:' .. id, ROOT .. 'attempts:' .. id)
    redis.call('SET', ROOT .. 'gone:' .. id, f[1], 'PX', ARGV[1])
    count = count + 1
  end
end
return count
