-- Lets a worker claim nothing more ('drain'), or claim again ('resume'), and tells it so. For one that has lost its
-- connection this is kept until it is back.
-- Answers 1, or 0 when there is no such worker.
-- takes: worker act
-- needs: base.ROOT worker.drain worker.let_claim
local is_drained = redis.call('ZSCORE', ROOT .. 'drained', worker)
if redis.call('HEXISTS', ROOT .. 'workers', worker) == 0 and not is_drained then return 0 end
if act == 'drain' then
  drain(worker)
else
  let_claim(worker)
end
redis.call('PUBLISH', ROOT .. 'signals', act .. ' ' .. worker)
return 1
