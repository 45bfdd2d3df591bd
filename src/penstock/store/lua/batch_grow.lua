-- Notes that a further part of a batch is about to be stored, so that it is deleted with the batch. The next part has
-- to come within `wait_ms`.
-- Answers 1, or 0 when the batch was deleted because nothing came for too long.
-- takes: id parts wait_ms
-- needs: base.ROOT base.now_ms batch.batch_key
if redis.call('EXISTS', batch_key(id)) == 0 then return 0 end
redis.call('HSET', batch_key(id), 'parts', parts)
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(wait_ms), id)
return 1
