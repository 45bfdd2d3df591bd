-- In front of every script. ROOT starts every key; moves are text such as "PENDING>RUNNING RUNNING>FAILED",
-- so that no script knows the name of a state.
local ROOT = KEYS[1]

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- The calls of one kind that a caller has made in the last 60 s, by their µs: how many more the limit lets in, and the
-- ms until the oldest no longer counts.
local function rate_state(key, limit, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 60000000)
  local used = redis.call('ZCARD', key)
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  local reset_ms = oldest and math.ceil((tonumber(oldest) + 60000000 - now) / 1000) or 0
  return limit - used, reset_ms
end

-- Count one more; the same two numbers after it.
local function count_in(key, now, id, left, reset_ms)
  redis.call('ZADD', key, now, id)
  redis.call('PEXPIRE', key, 60000)
  return left - 1, reset_ms > 0 and reset_ms or 60000
end

-- The state that `state` may move to, or nil.
local function target(moves, state)
  return state and string.match(moves, state .. '>(%u+)') or nil
end

local function task_key(id)
  return ROOT .. 'task:' .. id
end

local function queue_key(model, priority)
  return ROOT .. 'queue:' .. model .. ':' .. priority
end

-- Since when and by whom a queue is paused, as JSON, or nothing.
local function pause_of(model, priority)
  return redis.call('HGET', ROOT .. 'paused', model .. ':' .. priority)
end

-- How many tasks of its model are served before it, or -1 when it is in no queue. Nothing of a paused class is served.
local function position_of(id, model, priority, priorities)
  local ahead = redis.call('ZRANK', queue_key(model, priority), id)
  if not ahead then return -1 end
  for higher in string.gmatch(priorities, '%S+') do
    if higher == priority then break end
    if not pause_of(model, higher) then ahead = ahead + redis.call('ZCARD', queue_key(model, higher)) end
  end
  return ahead
end

-- Who watches this task hears of it, on a channel that is only there while somebody does.
local function tell(id)
  redis.call('PUBLISH', ROOT .. 'changed:' .. id, '')
end

-- Batches. `batch` of a task is `<place> <batch>`: which of its lines it is, from 0. The record of a batch counts its
-- lines by the state of their tasks, in the script that moves them, so that the counts are right whatever dies.
local function batch_key(batch)
  return ROOT .. 'batch:' .. batch
end

-- The places of the lines whose tasks wait or run.
local function open_key(batch)
  return ROOT .. 'open:' .. batch
end

-- The batch and the place that this field says; nothing for a task of none, or of one that was deleted.
local function batch_of(line)
  local place, batch = string.match(line or '', '^(%d+) (%S+)$')
  if batch and redis.call('EXISTS', batch_key(batch)) == 1 then return batch, place end
end

-- State, index and counts change together, always.
local function move(id, to)
  local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'created', 'batch')
  redis.call('ZREM', ROOT .. 'state:' .. f[1] .. ':' .. f[2], id)
  redis.call('ZADD', ROOT .. 'state:' .. f[1] .. ':' .. to, f[3], id)
  redis.call('HSET', task_key(id), 'state', to)
  local batch = batch_of(f[4])
  if batch then
    redis.call('HINCRBY', batch_key(batch), f[2], -1)
    redis.call('HINCRBY', batch_key(batch), to, 1)
  end
  tell(id)
end

-- Who waits for the result of an equal task is in no queue but here: `<digest> <id>`, so that equal ones lie together.
local function following_key(model)
  return ROOT .. 'following:' .. model
end

-- The bounds of one digest in it; the blank is the character before '!'.
local function equal_to(digest)
  return '[' .. digest .. ' ', '(' .. digest .. '!'
end

local function followers(model, digest)
  local found = redis.call('ZRANGEBYLEX', following_key(model), equal_to(digest))
  for i, member in ipairs(found) do found[i] = string.sub(member, #digest + 2) end
  return found
end

local function follow(model, digest, id)
  redis.call('ZADD', following_key(model), 0, digest .. ' ' .. id)
  redis.call('HSET', task_key(id), 'reused', 'coalesced')
end

-- Answers whether it had followed another.
local function unfollow(model, digest, id)
  if redis.call('ZREM', following_key(model), digest .. ' ' .. id) == 0 then return false end
  redis.call('HDEL', task_key(id), 'reused')
  return true
end

-- Whoever leads this digest follows too, unless it has started.
local function step_down(digest)
  local leader = redis.call('HGET', ROOT .. 'reuse', digest)
  if not leader then return end
  local f = redis.call('HMGET', task_key(leader), 'model', 'priority')
  if redis.call('ZREM', queue_key(f[1], f[2]), leader) == 1 then follow(f[1], digest, leader) end
end

-- The task follows nobody and leads nobody any more. Those who followed it take the places in their queues that they
-- would have had alone: not the head, since nobody knows whether their turn had come.
local function part(id)
  local f = redis.call('HMGET', task_key(id), 'reuse', 'model')
  local digest, model = f[1], f[2]
  if not digest or unfollow(model, digest, id) or redis.call('HGET', ROOT .. 'reuse', digest) ~= id then return end
  redis.call('HDEL', ROOT .. 'reuse', digest)
  for _, follower in ipairs(followers(model, digest)) do
    unfollow(model, digest, follower)
    local own = redis.call('HMGET', task_key(follower), 'priority', 'vft')
    redis.call('ZADD', queue_key(model, own[1]), own[2], follower)
    redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. model)
  end
end

-- Webhooks. `hook` of a record is `<endpoint> <what its client wants to hear of> ...`. The script in which such a thing
-- happens writes it into the outbox as an event, so that none is lost; who delivers events leases them.
local PROGRESS, PROGRESS_PAUSE_MS = 'PROGRESS', 500

-- The record that events are about: of a task or of a batch.
local function record_key(id)
  return string.sub(id, 1, 4) == 'bat_' and batch_key(id) or task_key(id)
end

local function events_key(id)
  return ROOT .. 'events:' .. id
end

local function outbox_key(endpoint)
  return ROOT .. 'outbox:' .. endpoint
end

-- Where to tell of this, or of anything; false when nobody wants to hear.
local function endpoint_of(id, what)
  local hook = redis.call('HGET', record_key(id), 'hook')
  return hook and (not what or string.find(hook, ' ' .. what, 1, true)) and string.match(hook, '^%S+')
end

local function event_of(id, seq)
  local event = seq and redis.call('HGET', events_key(id), seq)
  return event and cjson.decode(event)
end

-- `outbox` has every endpoint that is owed something, by the ms of its next delivery; but those that answer promptly are
-- in `outbox-prompt`, so that however many others wait, nobody looks past them.
local function is_prompt(endpoint)
  return redis.call('ZSCORE', ROOT .. 'prompt', endpoint) and true
end

local function keep_due(endpoint)
  local lane, other = ROOT .. 'outbox', ROOT .. 'outbox-prompt'
  if is_prompt(endpoint) then lane, other = other, lane end
  redis.call('ZREM', other, endpoint)
  local first = redis.call('ZRANGE', outbox_key(endpoint), 0, 0, 'WITHSCORES')[2]
  if first then
    local rests_until = tonumber(redis.call('HGET', ROOT .. 'resting', endpoint) or 0)
    redis.call('ZADD', lane, math.max(tonumber(first), rests_until), endpoint)
  else
    redis.call('ZREM', lane, endpoint)
    redis.call('HDEL', ROOT .. 'resting', endpoint)
  end
end

-- Write the event down, owed at `due` (ms), or no more when that is nil.
local function put_event(id, event, endpoint, due)
  event.due = due
  redis.call('HSET', events_key(id), event.seq, cjson.encode(event))
  local member = id .. ' ' .. event.seq
  if due then
    redis.call('ZADD', outbox_key(endpoint), due, member)
  else
    redis.call('ZREM', outbox_key(endpoint), member)
  end
  keep_due(endpoint)
end

local function drop_event(id, event, endpoint)
  redis.call('HDEL', events_key(id), event.seq)
  redis.call('ZREM', outbox_key(endpoint), id .. ' ' .. event.seq)
  keep_due(endpoint)
end

-- Owe the event, anew and with all its tries, and say so to who delivers.
local function owe(id, event, endpoint, due)
  event.tries = 0
  event.status = 'waiting'
  put_event(id, event, endpoint, due)
  redis.call('PUBLISH', ROOT .. 'posted', '')
end

local function post(id, what, endpoint, due)
  local seq = redis.call('HINCRBY', events_key(id), 'n', 1)
  owe(id, {seq = seq, what = what, at = now_ms(), epoch = 0}, endpoint, due)
  return seq
end

-- At most one word of progress is on its way: what it says is read when it is sent.
local function post_progress(id)
  local endpoint = endpoint_of(id, PROGRESS)
  if not endpoint then return end
  local f = redis.call('HMGET', events_key(id), 'progress', 'progressed')
  if event_of(id, f[1]) then return end
  local due = math.max(now_ms(), tonumber(f[2] or 0) + PROGRESS_PAUSE_MS)
  redis.call('HSET', events_key(id), 'progress', post(id, PROGRESS, endpoint, due), 'progressed', due)
end

-- The end is not overtaken by progress: what was not sent is dropped, and what is being sent is waited for.
local function post_end(id, state)
  local due, endpoint = now_ms(), endpoint_of(id)
  if not endpoint then return end
  local progress = event_of(id, redis.call('HGET', events_key(id), 'progress'))
  if progress and progress.status == 'leased' then
    due = math.max(due, progress.due)
  elseif progress then
    drop_event(id, progress, endpoint)
  end
  if endpoint_of(id, state) then post(id, state, endpoint, due) end
end

local function forget_events(id)
  local endpoint = endpoint_of(id)
  if not endpoint then return end
  for seq = 1, tonumber(redis.call('HGET', events_key(id), 'n') or 0) do
    redis.call('ZREM', outbox_key(endpoint), id .. ' ' .. seq)
  end
  keep_due(endpoint)
  redis.call('DEL', events_key(id))
end

-- Who feeds batches is to look at this one now.
local function call_feeder(batch)
  redis.call('ZADD', ROOT .. 'feeding', now_ms(), batch)
  redis.call('PUBLISH', ROOT .. 'room', '')
end

-- The last line has ended, and the batch with it, unless there are others to feed: then there may be room for them.
local function close_or_feed(batch)
  local f = redis.call('HMGET', batch_key(batch), 'total', 'fed', 'refill', 'next', 'state', 'caller', 'ttl_s')
  local left = redis.call('SCARD', open_key(batch))
  if left == 0 and f[1] == f[2] then
    redis.call('HSET', batch_key(batch), 'state', f[4], 'was', f[5], 'finished', now_ms())
    redis.call('HDEL', batch_key(batch), 'refill')
    redis.call('ZREM', ROOT .. 'feeding', batch)
    redis.call('SREM', ROOT .. 'unfinished:' .. f[6], batch)
    redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(f[7]) * 1000, batch)
    post_end(batch, f[4])
  elseif f[3] and left <= tonumber(f[3]) then
    redis.call('HDEL', batch_key(batch), 'refill')
    call_feeder(batch)
  end
end

-- A row of the manifest, which stays when the record of the task is gone.
local function note_end(batch, place, state, code)
  redis.call('RPUSH', ROOT .. 'ends:' .. batch, place .. ' ' .. state .. (code and ' ' .. code or ''))
end

local function end_line(batch, place, state, outcome)
  local problem = outcome ~= '' and cjson.decode(outcome).error
  note_end(batch, place, state, type(problem) == 'table' and problem.code)
  redis.call('SREM', open_key(batch), place)
  close_or_feed(batch)
end

-- The line is to end once more, and so is its batch if it had ended.
local function reopen_line(batch, place)
  redis.call('SADD', open_key(batch), place)
  local f = redis.call('HMGET', batch_key(batch), 'was', 'caller')
  if f[1] then
    redis.call('HSET', batch_key(batch), 'state', f[1])
    redis.call('HDEL', batch_key(batch), 'was', 'finished')
    redis.call('ZREM', ROOT .. 'closed', batch)
    redis.call('SADD', ROOT .. 'unfinished:' .. f[2], batch)
  end
end

-- Enter a final state: nothing of the task waits or runs any more, its deletion is scheduled, and who waits for its
-- end hears of it: on a channel of its own, so that no worker wakes up for it.
local function finish(id, to, outcome)
  part(id)
  local now = now_ms()
  local f = redis.call('HMGET', task_key(id), 'ttl_s', 'batch')
  local ttl_s = tonumber(f[1])
  move(id, to)
  redis.call('ZREM', ROOT .. 'running', id)
  redis.call('ZREM', ROOT .. 'starting', id)
  redis.call('ZREM', ROOT .. 'deadlines', id)
  redis.call('HSET', task_key(id), 'finished', now, 'stage', 'done')
  redis.call('ZADD', ROOT .. 'finals', now + ttl_s * 1000, id)
  if outcome ~= '' then
    redis.call('SET', ROOT .. 'outcome:' .. id, outcome)
  end
  redis.call('PUBLISH', ROOT .. 'ended', id)
  post_end(id, to)
  local batch, place = batch_of(f[2])
  if batch then end_line(batch, place, to, outcome) end
end

-- Take a waiting task out of where it waits.
local function withdraw(id, model, priority)
  redis.call('ZREM', queue_key(model, priority), id)
  redis.call('ZREM', ROOT .. 'delayed', id)
end

-- End a task with the result of an equal one, `origin`, whose file is kept for this one too from now on.
local function answer_from(origin, id, to, how, outcome)
  finish(id, to, outcome)
  redis.call('HSET', task_key(id), 'reused', how, 'origin', origin)
  redis.call('HINCRBY', ROOT .. 'shared', origin, 1)
end

-- Put a task that has waited its turn before at the head of its class: at the present virtual time, not behind
-- what came since.
local function requeue(id)
  local f = redis.call('HMGET', task_key(id), 'model', 'priority', 'vft')
  local v = tonumber(redis.call('HGET', ROOT .. 'clock:' .. f[2], 'v') or 0)
  redis.call('ZADD', queue_key(f[1], f[2]), math.min(v, tonumber(f[3])), id)
  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. f[1])
end

-- Write down the attempt that ends now. `problem` is a JSON object or ''.
local function log_attempt(id, outcome, problem)
  local f = redis.call('HMGET', task_key(id), 'epoch', 'worker', 'device', 'claimed')
  local entry = cjson.encode({
    n = tonumber(f[1]), worker = f[2], device = f[3], started = tonumber(f[4]), ended = now_ms(), outcome = outcome,
  })
  if problem ~= '' then
    entry = string.sub(entry, 1, -2) .. ',"error":' .. problem .. '}'
  end
  redis.call('RPUSH', ROOT .. 'attempts:' .. id, entry)
end

-- Whether (id, epoch) still holds the lease.
local function holds(id, epoch)
  return redis.call('ZSCORE', ROOT .. 'running', id) and redis.call('HGET', task_key(id), 'epoch') == epoch
end

-- Uploads. `arrived` is there when the bytes are, `deleted` when nobody may use them any more, `tasks` while some do.
-- `uploads` has the others by the ms when they are given up.
local function upload_key(id)
  return ROOT .. 'upload:' .. id
end

local function has_upload(id, field)
  local f = redis.call('HMGET', upload_key(id), field, 'deleted')
  return f[1] and not f[2]
end

local function retire_upload(id)
  redis.call('HSETNX', upload_key(id), 'deleted', now_ms())
  redis.call('ZADD', ROOT .. 'uploads', now_ms(), id)
end

local function use_upload(id)
  redis.call('HINCRBY', upload_key(id), 'tasks', 1)
  redis.call('ZREM', ROOT .. 'uploads', id)
end

-- One task less; the last one leaves it for what is left of the time that an unused one has.
local function disuse_upload(id)
  local f = redis.call('HMGET', upload_key(id), 'tenant', 'arrived', 'unused_ms')
  if not f[1] or redis.call('HINCRBY', upload_key(id), 'tasks', -1) > 0 then return end
  redis.call('ZADD', ROOT .. 'uploads', math.max(now_ms(), tonumber(f[2]) + tonumber(f[3])), id)
end
