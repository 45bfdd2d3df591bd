-- Forgets drained workers that are gone for so long: one that has lost its connection is still drained when it is back,
-- but not for ever.
local function forget_drained(after_ms)
  local drained = ROOT .. 'drained'
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', drained, '-inf', now_ms() - after_ms, 'LIMIT', 0, 100)) do
    if redis.call('HEXISTS', ROOT .. 'workers', old) == 0 then redis.call('ZREM', drained, old) end
  end
end
