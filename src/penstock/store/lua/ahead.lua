-- How many tasks would be served before one more of a caller.
-- ARGV  1 tenant  2 caller  3 model  4 priority
local tenant, caller, model, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local queue = queue_key(model, priority)
local own = redis.call('ZLEXCOUNT', queue, all_of(tenant .. '/' .. caller))
return waiting_above(model, priority, paused_queues())
  + ahead_in_class(model, priority, tenant, caller, own, own, redis.call('ZCARD', queue))
