-- Lets a worker claim nothing more ('drain'), or claim again ('resume'), and tells it so. For one that has lost its
-- connection this is kept until it is back.
-- Answers 1, or 0 when there is no such worker.
-- takes: worker act
-- needs: base.ROOT base.now_ms
local drained = ROOT .. 'drained'
if redis.call('HEXISTS', ROOT .. 'workers', worker) == 0 and not redis.call('ZSCORE', drained, worker) then return 0 end
if act == 'drain' then
  redis.call('ZADD', drained, 'NX', now_ms(), worker)
else
  redis.call('ZREM', drained, worker)
end
redis.call('PUBLISH', ROOT .. 'signals', act .. ' ' .. worker)
return 1
