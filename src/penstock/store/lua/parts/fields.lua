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

-- Reads those of these fields that are not known yet. Answers all fields of the hash that are known, false where there is
-- none: to look into that table costs a claim less than a call for each field.
local function read_fields(key, ...)
  local known, wanted = FIELDS[key], {...}
  if known then
    local missing = {}
    for i = 1, #wanted do
      if known[wanted[i]] == nil then missing[#missing + 1] = wanted[i] end
    end
    wanted = missing
  else
    known = {}
    FIELDS[key] = known
  end
  if not wanted[1] then return known end
  local found = redis.call('HMGET', key, unpack(wanted))
  for i = 1, #wanted do known[wanted[i]] = found[i] end
  return known
end

-- The value of a field, or false.
local function field_of(key, field)
  local known = FIELDS[key]
  local value = known and known[field]
  if value == nil or not known then return read_fields(key, field)[field] end
  return value
end

-- Writes what has changed so far.
local function write_fields()
  for i = 1, #CHANGED do
    local key = CHANGED[i]
    local changed = CHANGED[key]
    for first = 1, #changed, 1000 do
      redis.call('HSET', key, unpack(changed, first, math.min(first + 999, #changed)))
    end
  end
  CHANGED = {}
end

-- Changes a field, or deletes it when the value is false.
local function set_field(key, field, value)
  local known, changed = FIELDS[key], CHANGED[key]
  if not known then
    known = {}
    FIELDS[key] = known
  end
  known[field] = value
  if not value then
    write_fields()
    redis.call('HDEL', key, field)
    return
  end
  if not changed then
    changed = {}
    CHANGED[key], CHANGED[#CHANGED + 1] = changed, key
  end
  local count = #changed
  changed[count + 1], changed[count + 2] = field, value
end
