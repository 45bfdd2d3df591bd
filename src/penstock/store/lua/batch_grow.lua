-- A further part of a batch is about to be stored: from now on it is known, and deleted with the batch.
-- ARGV  1 id  2 parts  3 ms in which the next one has to come
-- Answers 1, or 0 when the batch was deleted since nothing came for too long.
local id = ARGV[1]
if redis.call('EXISTS', batch_key(id)) == 0 then return 0 end
redis.call('HSET', batch_key(id), 'parts', ARGV[2])
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(ARGV[3]), id)
return 1
