-- Of these inputs those that are awaited are not to be: what is stored of them, now or a little later, is deleted.
-- ARGV  keys
for _, key in ipairs(ARGV) do
  if redis.call('ZREM', ROOT .. 'awaited', key) == 1 then condemn(key, now_ms() + LATE_MS) end
end
