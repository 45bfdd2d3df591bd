-- ROOT starts every key. `moves` are text such as "PENDING>RUNNING RUNNING>FAILED", so that no script knows the name of
-- a state.
local ROOT = KEYS[1]

-- All that one call does happens at one moment, which is asked for once.
local NOW
local function now_us()
  if not NOW then
    local t = redis.call('TIME')
    NOW = t[1] * 1000000 + t[2]
  end
  return NOW
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- The state that `state` may move to, or nil.
local function target(moves, state)
  return state and string.match(moves, state .. '>(%u+)') or nil
end
