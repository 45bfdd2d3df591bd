-- The sorted set at `key` has the calls of one kind that a caller made in the last 60 s, by their µs. Answers how many
-- more the limit lets in, and the ms until the oldest no longer counts.
local function rate_state(key, limit, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 60000000)
  redis.call('ZREMRANGEBYSCORE', key, string.format('(%.0f', now), '+inf') -- from before the clock was set back
  local used = redis.call('ZCARD', key)
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local reset_ms = oldest and math.ceil((tonumber(oldest) + 60000000 - now) / 1000) or 0
  return limit - used, reset_ms
end

-- Counts one more call. Answers the same two numbers after it.
local function count_in(key, now, id, left, reset_ms)
  redis.call('ZADD', key, now, id)
  redis.call('PEXPIRE', key, 60000)
  return left - 1, reset_ms > 0 and reset_ms or 60000
end
