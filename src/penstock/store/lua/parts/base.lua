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

-- A number of a record. What is infinite, or none, would go on from here into sums that others share, and stay there.
local function sound_number(text, name)
  local number = tonumber(text)
  assert(number and number >= -1e17 and number <= 1e17, name .. ' is no number')
  return number
end

local LONG_MS = 60000

-- Deletes by time wait while this is true: the clock has jumped ahead, and may be set right again. It may have done so
-- since the reaper looked at it last.
local function has_grace()
  local found = redis.call('MGET', ROOT .. 'grace', ROOT .. 'reaper')
  return now_ms() < tonumber(found[1] or 0) or now_ms() - (found[2] or now_ms()) > LONG_MS
end

-- Some ids whose time in a sorted set is over, the longest first.
local function due_to_go(set, most)
  if has_grace() then return {} end
  return redis.call('ZRANGEBYSCORE', ROOT .. set, '-inf', now_ms(), 'LIMIT', 0, most)
end

-- The state that `state` may move to, or nil.
local function target(moves, state)
  return state and string.match(moves, state .. '>(%u+)') or nil
end

-- Call `act` with a thousand values of a list at a time: a call takes no more than some thousands.
local function in_pieces(list, act)
  for first = 1, #list, 1000 do act(unpack(list, first, math.min(first + 999, #list))) end
end
