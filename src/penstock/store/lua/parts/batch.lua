-- The field `batch` of a task is `<place> <batch>`: the place of its line, from 0, and the batch. The record of a batch
-- counts its lines by the state of their tasks, in the script that moves them, so that the counts are right whatever
-- dies. Its fields `redis_bytes` and `stored_bytes` say what the account of its tenant was charged for it.
local BATCH_BYTES = 800 -- of its record in Redis and of its places in sets
local LINE_BYTES = 24 -- of its row of the manifest and its place among the open ones

local function batch_key(batch)
  return ROOT .. 'batch:' .. batch
end

-- The places of the lines whose tasks wait or run.
local function open_key(batch)
  return ROOT .. 'open:' .. batch
end

-- The batches of a caller that have not ended.
local function unfinished_key(tenant, caller)
  return ROOT .. 'unfinished:' .. tenant .. '/' .. caller
end

-- Counts the line of a task that moves. Answers its batch and its place there, or nothing for a task of no batch, or of
-- a batch that was deleted.
local function count_line(task, to)
  if not task.batch then return end
  local place, batch = string.match(task.batch, '^(%d+) (%S+)$')
  local f = redis.pcall('HMGET', batch_key(batch), 'tenant', task.state, to) -- a damaged one must not stop the task
  if f.err or not f[1] then return end
  redis.call('HSET', batch_key(batch), task.state, (tonumber(f[2]) or 0) - 1, to, (tonumber(f[3]) or 0) + 1)
  return batch, place
end

-- Makes a batch due, and tells the feeders.
local function call_feeder(batch)
  redis.call('ZADD', ROOT .. 'feeding', now_ms(), batch)
  redis.call('PUBLISH', ROOT .. 'room', '')
end

-- So many lines have ended: ends the batch with its last line, or calls a feeder when there is room for further lines.
local function close_or_feed(batch, count)
  local f = redis.call('HMGET', batch_key(batch), 'total', 'fed', 'refill', 'next', 'state', 'caller', 'ttl_s', 'hook',
    'tenant')
  local left = redis.call('SCARD', open_key(batch))
  if f[9] then count_for(f[9], 'lines', -count) end
  if left == 0 and f[1] == f[2] then
    redis.call('HSET', batch_key(batch), 'state', f[4], 'was', f[5], 'finished', now_ms())
    redis.call('HDEL', batch_key(batch), 'refill')
    redis.call('ZREM', ROOT .. 'feeding', batch)
    redis.call('SREM', unfinished_key(f[9], f[6]), batch)
    redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(f[7]) * 1000, batch)
    if f[8] then post_end(batch, f[4], f[8]) end
  elseif f[3] and left <= tonumber(f[3]) then
    redis.call('HDEL', batch_key(batch), 'refill')
    call_feeder(batch)
  end
end

-- Writes a row of the manifest, which stays when the record of the task is gone.
local function note_end(batch, place, state, code)
  redis.call('RPUSH', ROOT .. 'ends:' .. batch, place .. ' ' .. state .. (code and ' ' .. code or ''))
end

-- The code of the error in an outcome, or false. It is kept, since many tasks may have the same outcome, which may be
-- long.
local CODE_OF = {}
local function error_code(outcome)
  if CODE_OF[outcome] == nil then
    local problem = outcome ~= '' and cjson.decode(outcome).error
    CODE_OF[outcome] = type(problem) == 'table' and problem.code or false
  end
  return CODE_OF[outcome]
end

local function end_line(batch, place, state, outcome)
  note_end(batch, place, state, error_code(outcome))
  redis.call('SREM', open_key(batch), place)
  close_or_feed(batch, 1)
end

-- Deletes all keys of a batch at once, and condemns its lines; also those that are stored after this, when the batch
-- was still being received.
local function forget_batch(batch)
  local f = redis.call('HMGET', batch_key(batch), 'tenant', 'caller', 'idem', 'state', 'hook', 'redis_bytes',
    'stored_bytes')
  redis.call('ZREM', ROOT .. 'closed', batch)
  redis.call('ZREM', ROOT .. 'batches:' .. f[1], batch)
  redis.call('SREM', unfinished_key(f[1], f[2]), batch)
  if f[3] then redis.call('DEL', ROOT .. 'idem:' .. f[3]) end
  if f[5] then forget_events(batch, f[5]) end
  redis.call('DEL', batch_key(batch), open_key(batch), ROOT .. 'plan:' .. batch, ROOT .. 'ends:' .. batch)
  count_for(f[1], 'redis', -(f[6] or 0), 'storage', -(f[7] or 0))
  condemn('batches/' .. f[1] .. '/' .. batch .. '/', not f[4] and now_ms() + LATE_MS)
  if f[4] then remember_gone(batch, f[1]) end
end

-- Opens a line again that is to end once more, and its batch if that had ended.
local function reopen_line(batch, place)
  redis.call('SADD', open_key(batch), place)
  local f = redis.call('HMGET', batch_key(batch), 'was', 'tenant', 'caller')
  count_for(f[2], 'lines', 1)
  if f[1] then
    redis.call('HSET', batch_key(batch), 'state', f[1])
    redis.call('HDEL', batch_key(batch), 'was', 'finished')
    redis.call('ZREM', ROOT .. 'closed', batch)
    redis.call('SADD', unfinished_key(f[2], f[3]), batch)
  end
end
