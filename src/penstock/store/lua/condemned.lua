-- Take what is to be deleted from the storage, for a while: who takes it deletes it, and then says `buried`. What one
-- that has died had taken is taken again. Inputs that nobody has made a task of in time are condemned first.
-- ARGV  1 most  2 ms for which they are taken
-- Answers keys, and prefixes that end with a slash
local now, condemned = now_ms(), ROOT .. 'condemned'
for _, key in ipairs(due_to_go('awaited', ARGV[1])) do
  redis.call('ZREM', ROOT .. 'awaited', key)
  redis.call('ZADD', condemned, now, key)
end
local taken = redis.call('ZRANGEBYSCORE', condemned, '-inf', now, 'LIMIT', 0, ARGV[1])
for _, key in ipairs(taken) do redis.call('ZADD', condemned, now + ARGV[2], key) end
return taken
