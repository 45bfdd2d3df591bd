-- ROOT starts every key. `moves` are text such as "PENDING>RUNNING RUNNING>FAILED", so that no script contains the name
-- of a state.
local ROOT = KEYS[1]

-- The time in µs. All that one call does happens at one moment, which is asked for once.
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

-- A number of a record. An infinite value, or none, would get into sums that other tasks share, and stay there.
local function sound_number(text, name)
  local number = tonumber(text)
  assert(number and number >= -1e17 and number <= 1e17, name .. ' is no number')
  return number
end

local LONG_MS = 60000

-- Whether deletes by time have to wait: the clock has jumped ahead, and may be set right again. It may have jumped
-- since the reaper looked at it last.
local function has_grace()
  local found = redis.call('MGET', ROOT .. 'grace', ROOT .. 'reaper')
  return now_ms() < tonumber(found[1] or 0) or now_ms() - (found[2] or now_ms()) > LONG_MS
end

-- At most `most` ids whose time in a sorted set is over, the longest over first.
local function due_to_go(set, most)
  if has_grace() then return {} end
  return redis.call('ZRANGEBYSCORE', ROOT .. set, '-inf', now_ms(), 'LIMIT', 0, most)
end

-- The state that `state` may move to, or nil.
local function target(moves, state)
  return state and string.match(moves, state .. '>(%u+)') or nil
end

-- Calls `act` with a thousand values of a list at a time: Lua passes some thousands to a function at most.
local function in_pieces(list, act)
  for first = 1, #list, 1000 do act(unpack(list, first, math.min(first + 999, #list))) end
end
