-- An endpoint lets a delivery wait: it is not prompt any more, until it answers so again.
-- ARGV  1 endpoint
redis.call('ZREM', ROOT .. 'prompt', ARGV[1])
keep_due(ARGV[1])
