-- Each object in the storage belongs to a record, or its key is in one of two sorted sets. `awaited` has the keys of
-- inputs that are about to be stored for tasks that are not there yet, by the ms when that is given up. `condemned` has
-- what is to be deleted, by the ms when that is done: a key, or all keys that begin with it when it ends with a slash.
-- 'again ' stands in front of a key that is deleted a second time, since something may have been stored there after the
-- first: by an attempt that was cut off, or by a slow storage that applies late what was given up long ago.
local AWAITED_MS = 7200000
local LATE_MS = 1800000

-- The beginning of the key of an input that came with a task. The field `input` of its record is the rest of the key:
-- each feeder that stores the input of a batch line uses another one. It ends with a slash where several inputs came,
-- which lie below that prefix.
local function input_key(tenant, id)
  return 'inputs/' .. tenant .. '/' .. id
end

-- Answers whether the key is awaited. One that is to be deleted never is: a call that comes a second time, after its task
-- was deleted, would have its new task lose its input.
local function await_input(key)
  local scores = redis.call('ZMSCORE', ROOT .. 'condemned', key, 'again ' .. key)
  if scores[1] or scores[2] then return false end
  redis.call('ZADD', ROOT .. 'awaited', now_ms() + AWAITED_MS, key)
  return true
end

-- Whether the record of a task shows the input. Its key may be awaited all the same: a network may hold back a call of
-- `await` until after its caller has sent it a second time and has submitted the task.
local function is_input_of_a_task(key)
  local id, rest = string.match(key, '^inputs/[^/]+/(%l%l%l_%x+)(.*)$')
  return id and redis.call('HGET', ROOT .. 'task:' .. id, 'input') == rest
end

local function results_of(tenant, id)
  return 'results/' .. tenant .. '/' .. id .. '/'
end

-- Keys and prefixes that this call of a script has condemned.
local CONDEMNED = {}

-- Condemns a key or a prefix. `late` is the ms until which something may still be stored there, or nil.
local function condemn(key, late)
  CONDEMNED[#CONDEMNED + 1] = key
  redis.call('ZADD', ROOT .. 'condemned', now_ms(), key)
  if late and late > now_ms() then redis.call('ZADD', ROOT .. 'condemned', late, 'again ' .. key) end
end

-- Whether the result in this outcome has files: they come first in it, and data alone may say anything.
local HAS_FILES = '{"result":{"artifacts":['
local function has_files(outcome)
  return string.sub(outcome, 1, #HAS_FILES) == HAS_FILES
end

-- Whether attempts at the task may have stored files, also those that its record does not show. A task that has
-- succeeded at once, with plain data, has none.
local function may_have_files(task)
  local outcome = task.epoch == '1' and not task.cut_off and redis.call('GET', ROOT .. 'outcome:' .. task.id)
  local has_result = outcome and string.sub(outcome, 1, 11) == '{"result":{'
  return not has_result or has_files(outcome)
end

-- Condemns the files of a task with the last record that shows its result: its own, or that of a task which was given
-- it. Answers whether this is the last.
local function condemn_results(task)
  local late = math.max(tonumber(task.cut_off or 0), tonumber(task.finished)) + LATE_MS
  local origin, shared = task.origin or task.id, ROOT .. 'shared'
  local others = tonumber(redis.call('HGET', shared, origin) or 0)
  if others > 1 then
    redis.call('HINCRBY', shared, origin, -1)
  elseif others == 1 then
    redis.call('HDEL', shared, origin)
  elseif task.origin then -- nobody knows any more whether an attempt at that one was cut off
    condemn(results_of(task.tenant, origin), now_ms() + LATE_MS)
  elseif may_have_files(task) then
    condemn(results_of(task.tenant, origin), late)
  end
  return others == 0
end
