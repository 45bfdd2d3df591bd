-- Counts the tasks that would be served before one more task of a caller.
-- Answers that number.
-- takes: tenant caller model priority
-- needs: position.ahead_in_class position.waiting_above queue.all_of queue.paused_queues queue.queue_key
local queue = queue_key(model, priority)
local own = redis.call('ZLEXCOUNT', queue, all_of(tenant .. '/' .. caller))
return waiting_above(model, priority, paused_queues())
  + ahead_in_class(model, priority, tenant, caller, own, own, redis.call('ZCARD', queue))
