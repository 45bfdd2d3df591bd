-- Renews the leases of batches, each given as id, epoch.
-- Answers the ids whose lease is lost.
-- takes: lease_ms leases...
-- needs: base.ROOT base.now_ms batch.batch_key
local lost = {}
for i = 1, #leases, 2 do
  local id = leases[i]
  if redis.call('HGET', batch_key(id), 'epoch') == leases[i + 1] and redis.call('ZSCORE', ROOT .. 'feeding', id) then
    redis.call('ZADD', ROOT .. 'feeding', now_ms() + tonumber(lease_ms), id)
  else
    lost[#lost + 1] = id
  end
end
return lost
