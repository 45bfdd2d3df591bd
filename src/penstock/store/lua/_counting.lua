-- Stands in front of scripts that work on many tasks: they count the commands that they give and stop in time, so that
-- other callers wait a few milliseconds at most. The last step may take 500 commands more; together they stay below
-- 2,000.
local CALLS = 0
local uncounted, uncounted_pcall = redis.call, redis.pcall
local redis = {sha1hex = redis.sha1hex}

function redis.call(...)
  CALLS = CALLS + 1
  return uncounted(...)
end

function redis.pcall(...)
  CALLS = CALLS + 1
  return uncounted_pcall(...)
end

local function may_go_on()
  return CALLS < 1500
end
