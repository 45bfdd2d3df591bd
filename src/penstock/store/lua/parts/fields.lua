-- Fields of hashes that several parts of a script look at and change. What a script knows that it needs of a hash it reads
-- in one command. What has changed is written when the script is over, in one command for each hash: the assembler sees
-- to that.
--
-- BOARD is the hash with what nearly every script looks at; there is one for all models. What is on it is in parts/queue
-- (`paused`), parts/caps (`capped`), parts/worker (`drained:<worker>`, `round:<worker>`), parts/pools (`pools:<model>`) and
-- parts/pace (`ms:<model>`, `cost:<model>`).
local BOARD = ROOT .. 'board'
local FIELDS = {}
local CHANGED = {}

-- Reads those of these fields that are not known yet.
local function read_fields(key, ...)
  local known, missing = FIELDS[key] or {}, {}
  FIELDS[key] = known
  for _, field in ipairs({...}) do
    if known[field] == nil then missing[#missing + 1] = field end
  end
  if not missing[1] then return end
  local found = redis.call('HMGET', key, unpack(missing))
  for i, field in ipairs(missing) do known[field] = found[i] end
end

-- The value of a field, or nil.
local function field_of(key, field)
  read_fields(key, field)
  return FIELDS[key][field] or nil
end

-- Changes a field, or deletes it when the value is false.
local function set_field(key, field, value)
  local changed = CHANGED[key]
  if not changed then
    changed = {}
    CHANGED[key], CHANGED[#CHANGED + 1] = changed, key
  end
  if not changed[field] then changed[field], changed[#changed + 1] = true, field end
  FIELDS[key] = FIELDS[key] or {}
  FIELDS[key][field] = value
end

local function write_fields()
  for _, key in ipairs(CHANGED) do
    local written, deleted = {}, {}
    for _, field in ipairs(CHANGED[key]) do
      local value = FIELDS[key][field]
      if value then
        written[#written + 1] = field
        written[#written + 1] = value
      else
        deleted[#deleted + 1] = field
      end
    end
    in_pieces(written, function(...) redis.call('HSET', key, ...) end)
    in_pieces(deleted, function(...) redis.call('HDEL', key, ...) end)
  end
end
