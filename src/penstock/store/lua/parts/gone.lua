-- Deleted ids are remembered for a week, so that a client hears 410 and not 404: six bytes for each, in four strings
-- for all that were made within the same ten minutes. Each string is short enough to be searched.
local GONE_KNOWN_MS = 604800000

-- The key of the string that would have this id, and its six bytes there: 48 of its random bits. Nothing for a text
-- that is no id.
local function mark_of(id, tenant)
  local ms, random = string.match(id, '^%l%l%l_(%x%x%x%x%x%x%x%x%x%x%x%x)(%x%x%x%x%x%x%x%x%x%x%x%x)%x%x%x%x%x%x%x%x$')
  if not ms then return end
  local bytes = string.gsub(random, '%x%x', function(pair) return string.char(tonumber(pair, 16)) end)
  local shard = tonumber(string.sub(random, 1, 1), 16) % 4
  return ROOT .. 'gone:' .. tenant .. ':' .. math.floor(tonumber(ms, 16) / 600000) .. ':' .. shard, bytes
end

local function remember_gone(id, tenant)
  local key, mark = mark_of(id, tenant)
  if not key then return end
  redis.call('APPEND', key, mark)
  redis.call('PEXPIRE', key, GONE_KNOWN_MS)
end

local function is_gone(id, tenant)
  local key, mark = mark_of(id, tenant)
  local marks = key and redis.call('GET', key)
  local place = marks and string.find(marks, mark, 1, true)
  while place and place % 6 ~= 1 do place = string.find(marks, mark, place + 1, true) end
  return place and true or false
end
