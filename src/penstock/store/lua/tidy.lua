-- Forgets what is out of date: drained workers that were gone for `gone_ms`, pools that no worker has, and the start
-- times of callers which the virtual time has passed long ago: by more than any attempt takes, so that what is still to
-- be set right for them makes no difference. Of the callers some are looked at, picked at random.
-- takes: gone_ms
-- needs: base.ROOT base.now_ms core.PRIORITIES flows.clock_key pools.POOL_KEPT_MS pools.drop_pool
--        worker.forget_drained
local PASSED_MS = 86400000
forget_drained(gone_ms)
for _, pool in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'pools:seen', '-inf', now_ms() - POOL_KEPT_MS)) do
  drop_pool(pool)
end
for _, pool in ipairs(redis.call('HKEYS', ROOT .. 'pools')) do
  for priority in string.gmatch(PRIORITIES, '%S+') do
    local clock = clock_key(pool, priority)
    local v = tonumber(redis.call('HGET', clock, 'v') or 0)
    local some, passed = redis.call('HRANDFIELD', clock, 100, 'WITHVALUES'), {}
    for i = 1, #some, 2 do
      if string.sub(some[i], 1, 2) == 'f:' and some[i + 1] + PASSED_MS < v then passed[#passed + 1] = some[i] end
    end
    if passed[1] then redis.call('HDEL', clock, unpack(passed)) end
  end
end
