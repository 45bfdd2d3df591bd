-- The field `held` of a record says what the account of its tenant was charged for it, so that exactly this is taken off
-- again: the bytes of the record with all that belongs to it in Redis, of its own input and of its result files in the
-- storage, and the ms of a device that are reserved while it has not ended. Tasks with one result have its files in
-- common: these are taken off with the last of them.
local TASK_BYTES = 1500 -- of its record and places in sets: 850 were measured while it waits, 1,700 with all limits

local function held_text(redis_bytes, input_bytes, result_bytes, reserved_ms)
  return string.format('%.0f %.0f %.0f %.0f', redis_bytes, input_bytes, result_bytes, reserved_ms)
end

-- The same of a task, as numbers by their names.
local function held_by(task)
  if not task.held_now then
    local all, input, result, reserved = string.match(task.held or '', '^(%d+) (%d+) (%d+) (%d+)$')
    task.held_now = {redis = tonumber(all) or 0, input = tonumber(input) or 0, result = tonumber(result) or 0,
      reserved = tonumber(reserved) or 0}
  end
  return task.held_now
end

-- Notes a change of the account that comes with what happens to a task: `move` writes it down.
local function note(task, name, number)
  task.changes = task.changes or {}
  task.changes[#task.changes + 1] = name
  task.changes[#task.changes + 1] = number
end

-- Notes a text of a task to write: `move` writes all of them in one command.
local function write_with(task, key, text)
  task.texts = task.texts or {}
  task.texts[#task.texts + 1] = key
  task.texts[#task.texts + 1] = text
end

-- Notes that what belongs to a task in Redis has so many bytes more.
local function grow(task, bytes)
  local held = held_by(task)
  held.redis = held.redis + bytes
  note(task, 'redis', bytes)
end

-- Notes the end of a task with this outcome, when its result files are known.
local function note_outcome(task, to, outcome)
  local held = held_by(task)
  grow(task, #outcome)
  note(task, 'bytes_out', #outcome + held.result)
  note(task, 'reserved_ms', -held.reserved)
  note(task, string.lower(to), 1)
end

-- The `held` of a task to write down, after the changes that were noted have been counted.
local function settle_account(task)
  if not task.changes then return task.held or held_text(0, 0, 0, 0) end
  count_for(task.tenant, unpack(task.changes))
  task.changes = nil
  local held = held_by(task)
  return held_text(held.redis, held.input, held.result, held.reserved)
end

-- Reserves what a task should take of a device, which had reserved nothing while it waited for the result of another.
local function reserve(task, ms)
  local held = held_by(task)
  if held.reserved > 0 then return end
  held.reserved = math.ceil(ms)
  note(task, 'reserved_ms', held.reserved)
  redis.call('HSET', task.key, 'held', settle_account(task))
end

-- Takes a task that is forgotten off the account, with its result files if it is the last one that shows them.
local function uncount(task, is_last)
  local held = held_by(task)
  count_for(task.tenant, 'redis', -held.redis, 'storage', -held.input - (is_last and held.result or 0))
end

-- The `held` of a task whose record does not say it any more, by what belongs to it in Redis and can be read. How large its
-- files are, and what it has reserved, is not known any more.
local function held_again(id)
  local bytes = TASK_BYTES
  for part in string.gmatch('body outcome attempts log', '%S+') do
    local size = redis.pcall('STRLEN', ROOT .. part .. ':' .. id)
    bytes = bytes + (type(size) == 'number' and size or 0)
  end
  return held_text(bytes + inline_size(id), 0, 0, 0)
end
