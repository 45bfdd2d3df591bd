-- Takes what is to be deleted from the storage, for `hold_ms`: the taker deletes it and then calls `buried`. What a
-- taker left that died is taken again. Inputs that came with no task in time are condemned first.
-- Answers keys, and prefixes that end with a slash.
-- takes: most hold_ms
-- needs: base.ROOT base.due_to_go base.now_ms objects.is_input_of_a_task
local now, condemned = now_ms(), ROOT .. 'condemned'
for _, key in ipairs(due_to_go('awaited', most)) do
  redis.call('ZREM', ROOT .. 'awaited', key)
  if not is_input_of_a_task(key) then redis.call('ZADD', condemned, now, key) end
end
local taken = redis.call('ZRANGEBYSCORE', condemned, '-inf', now, 'LIMIT', 0, most)
for _, key in ipairs(taken) do redis.call('ZADD', condemned, now + hold_ms, key) end
return taken
