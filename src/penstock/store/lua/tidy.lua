-- Forgets what is out of date: drained workers that were gone for `gone_ms`, pools that no worker has, and the start
-- times of callers which the virtual time has passed long ago: by more than any attempt takes, so that what is still to
-- be set right for them makes no difference. Of the callers some are looked at, picked at random.
-- takes: gone_ms
-- needs: base.ROOT base.now_ms fields.field_of flows.pool_key pools.POOL_KEPT_MS
--        pools.drop_pool worker.forget_drained worker.forget_rounds
local PASSED_MS = 86400000
forget_drained(gone_ms)
for _, pool in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'pools:seen', '-inf', now_ms() - POOL_KEPT_MS)) do
  drop_pool(pool)
end
for _, pool in ipairs(redis.call('HKEYS', ROOT .. 'pools')) do
  local some, passed = redis.call('HRANDFIELD', pool_key(pool), 300, 'WITHVALUES'), {}
  for i = 1, #some, 2 do
    local priority = string.match(some[i], '^f:(%l+):')
    local v = priority and tonumber(field_of(pool_key(pool), 'v:' .. priority) or 0)
    if priority and some[i + 1] + PASSED_MS < v then passed[#passed + 1] = some[i] end
  end
  if passed[1] then redis.call('HDEL', pool_key(pool), unpack(passed)) end
end
forget_rounds()
