-- What is in the storage belongs to a record, or is in one of two sorted sets. `awaited` has the keys of inputs that are
-- about to be stored for tasks that are not there yet, by the ms when that is given up; `condemned` has what is to be
-- deleted, by the ms when that is done: a key, or all keys that begin with it when it ends with a slash. In front of one
-- that is deleted a second time stands 'again ', since something may have been stored there after the first time: by an
-- attempt that was cut off, or by a slow storage that applies late what was given up long ago.
local AWAITED_MS = 7200000
local LATE_MS = 1800000

-- Where the input is that came with a task. `input` of its record is what comes after this: inputs of batch lines have
-- names of their own for each who stores them.
local function input_key(tenant, id)
  return 'inputs/' .. tenant .. '/' .. id
end

local function await_input(key)
  redis.call('ZADD', ROOT .. 'awaited', now_ms() + AWAITED_MS, key)
end

local function results_of(tenant, id)
  return 'results/' .. tenant .. '/' .. id .. '/'
end

-- What this script has condemned.
local CONDEMNED = {}

-- `late` is the ms until which something may still be stored there, or nil.
local function condemn(key, late)
  CONDEMNED[#CONDEMNED + 1] = key
  redis.call('ZADD', ROOT .. 'condemned', now_ms(), key)
  if late and late > now_ms() then redis.call('ZADD', ROOT .. 'condemned', late, 'again ' .. key) end
end

-- Whether attempts at the task may have stored files: also those that its record has lost. One that has succeeded at
-- once, with plain data, has none.
local function may_have_files(task)
  local outcome = task.epoch == '1' and not task.cut_off and redis.call('GET', ROOT .. 'outcome:' .. task.id)
  return not (outcome and string.find(outcome, '"result":{', 1, true) and not string.find(outcome, '"artifact":{', 1, true))
end

-- The files of a task go with the last record that shows its result: its own, or one of those which it answered.
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
end
