-- Inputs that came inside of a request may stay in Redis, in the hash `input:<id>`, under the keys that they would have
-- in the storage. The field `inline` of the record says how many bytes they have, and what follows the id in these keys;
-- its field `input` says that the storage may have them too. `inline` is the sum of the bytes of all tasks, and
-- `inline:ended` has the tasks that have ended by the ms from which on their inputs may be moved to the storage.
local function inline_key(id)
  return ROOT .. 'input:' .. id
end

-- Adds to the sum of all, and answers it. A sum that is damaged begins anew: damage must stop no task.
local function add_inline(bytes)
  local sum = redis.pcall('INCRBY', ROOT .. 'inline', bytes)
  if type(sum) == 'number' and sum >= 0 then return sum end
  redis.call('SET', ROOT .. 'inline', math.max(0, bytes))
  return math.max(0, bytes)
end

-- Whether so many more bytes fit into the budget of all, of which they are a part from then on.
local function admit_inline(bytes, budget)
  if add_inline(bytes) <= budget then return true end
  add_inline(-bytes)
  return false
end

-- The inputs of a task as key, bytes ...; nothing where they are in the storage, or damaged.
local function inline_of(task)
  local found = task.inline and redis.pcall('HGETALL', inline_key(task.id)) or {}
  return found.err and {} or found
end

-- The bytes of what is there of a task, whatever its record says.
local function inline_size(id)
  local bytes = 0
  for _, value in ipairs(redis.pcall('HVALS', inline_key(id))) do bytes = bytes + #value end
  return bytes
end

-- Takes so many bytes of a task out of Redis and out of the sum.
local function drop_inline(id, bytes)
  redis.call('DEL', inline_key(id))
  redis.call('ZREM', ROOT .. 'inline:ended', id)
  add_inline(-bytes)
end

-- The bytes of a task, and what follows its id in their keys; 0 when it has none in Redis.
local function said_inline(task)
  if not task.inline then return 0 end
  local bytes, rest = string.match(task.inline, '^(%d+) (.*)$')
  assert(bytes, 'inline is not what it should be')
  return tonumber(bytes), rest
end
