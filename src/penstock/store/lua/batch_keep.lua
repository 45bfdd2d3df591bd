-- Keep the leases of batches, from now on, for as long as they last.
-- ARGV  1 lease ms  2.. id, epoch, id, epoch ...
-- Answers the ids whose lease is lost.
local lost = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('HGET', batch_key(id), 'epoch') == ARGV[i + 1] and redis.call('ZSCORE', ROOT .. 'feeding', id) then
    redis.call('ZADD', ROOT .. 'feeding', now_ms() + tonumber(ARGV[1]), id)
  else
    lost[#lost + 1] = id
  end
end
return lost
