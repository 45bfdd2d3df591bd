-- What the models of a task have said, as text: the beginning and the end of it where it is long.
local LOG_BYTES = 65536
local KEPT_BYTES = LOG_BYTES / 2 - 64
local LEFT_OUT = '[... %d bytes are left out ...]'

local function log_key(id)
  return ROOT .. 'log:' .. id
end

-- Cuts at the ends of lines. What was left out before counts.
local function shortened(text)
  local from = string.find(string.sub(text, 1, KEPT_BYTES), '\n[^\n]*$') or KEPT_BYTES
  local to = string.find(text, '\n', #text - KEPT_BYTES, true) or #text - KEPT_BYTES
  local before = string.match(string.sub(text, from, to), '\n%[%.%.%. (%d+) bytes are left out %.%.%.%]\n') or 0
  return string.sub(text, 1, from) .. string.format(LEFT_OUT, to - from + before) .. string.sub(text, to)
end

-- Adds the log of an attempt. A key of another type is damage, and is replaced. Answers by how many bytes it has grown.
local function append_log(id, text)
  local kept = redis.pcall('GET', log_key(id))
  local before = type(kept) == 'string' and kept or ''
  local whole = before .. text
  whole = #whole > LOG_BYTES and shortened(whole) or whole
  redis.call('SET', log_key(id), whole)
  return #whole - #before
end
