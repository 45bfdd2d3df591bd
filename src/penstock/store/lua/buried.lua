-- What was condemned is deleted.
-- ARGV  keys and prefixes, as they were taken
redis.call('ZREM', ROOT .. 'condemned', unpack(ARGV))
