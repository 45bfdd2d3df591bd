-- The field `hook` of a record is `<endpoint> <kind of event that its client wants> ...`. The script in which such an
-- event happens writes it into the outbox, so that none is lost; dispatchers lease the events.
local PROGRESS = 'PROGRESS'
local PROGRESS_PAUSE_MS = 500
local LONGEST_LEASE_MS = 60000

-- The key of the record that events are about: of a task or of a batch.
local function record_key(id)
  return string.sub(id, 1, 4) == 'bat_' and batch_key(id) or task_key(id)
end

local function hook_of(id)
  return redis.call('HGET', record_key(id), 'hook')
end

local function events_key(id)
  return ROOT .. 'events:' .. id
end

local function outbox_key(endpoint)
  return ROOT .. 'outbox:' .. endpoint
end

-- The endpoint of a hook that wants events of this kind, or of any; nil when it does not want them.
local function endpoint_of(hook, what)
  return (not what or string.find(hook, ' ' .. what, 1, true)) and string.match(hook, '^%S+')
end

-- The event of this seq; nil also for one that cannot be read.
local function event_of(id, seq)
  local text = seq and redis.pcall('HGET', events_key(id), seq)
  local is_read, event = pcall(cjson.decode, type(text) == 'string' and text or '')
  return is_read and type(event) == 'table' and tonumber(event.epoch) and event.seq and event.status and event or nil
end

-- `outbox` has every endpoint with events to deliver, by the ms of its next delivery; but prompt endpoints are in
-- `outbox-prompt`, so that no dispatcher has to look past others that wait, however many they are.
local function is_prompt(endpoint)
  return redis.call('ZSCORE', ROOT .. 'prompt', endpoint) and true
end

-- Writes down when the next event of an endpoint is due, in the lane that it belongs to.
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

-- Writes an event down, to be delivered at `due` (ms), or not any more when that is nil.
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

-- Queues an event, anew and with all its tries, and tells the dispatchers.
local function queue_event(id, event, endpoint, due)
  event.tries = 0
  event.status = 'waiting'
  put_event(id, event, endpoint, due)
  redis.call('PUBLISH', ROOT .. 'posted', '')
end

local function post(id, what, endpoint, due)
  local seq = redis.call('HINCRBY', events_key(id), 'n', 1)
  queue_event(id, {seq = seq, what = what, at = now_ms(), epoch = 0}, endpoint, due)
  return seq
end

-- Queues an event of progress, unless one is on its way: what it says is read when it is sent.
local function post_progress(id, hook)
  local endpoint = endpoint_of(hook, PROGRESS)
  if not endpoint then return end
  local f = redis.call('HMGET', events_key(id), 'progress', 'progressed')
  if event_of(id, f[1]) then return end
  local due = math.max(now_ms(), math.min(tonumber(f[2] or 0), now_ms()) + PROGRESS_PAUSE_MS)
  redis.call('HSET', events_key(id), 'progress', post(id, PROGRESS, endpoint, due), 'progressed', due)
end

-- Queues the event of an end. Progress must not come after it: what was not sent is dropped, and what is being sent is
-- waited for.
local function post_end(id, state, hook)
  local due, endpoint = now_ms(), endpoint_of(hook)
  local progress = event_of(id, redis.call('HGET', events_key(id), 'progress'))
  if progress and progress.status == 'leased' then
    due = math.max(due, math.min(progress.due, due + LONGEST_LEASE_MS)) -- the clock may have been set back
  elseif progress then
    drop_event(id, progress, endpoint)
  end
  if endpoint_of(hook, state) then post(id, state, endpoint, due) end
end

local function forget_events(id, hook)
  local endpoint, owed = endpoint_of(hook), {}
  for _, seq in ipairs(redis.call('HKEYS', events_key(id))) do
    if tonumber(seq) then owed[#owed + 1] = id .. ' ' .. seq end
  end
  in_pieces(owed, function(...) redis.call('ZREM', outbox_key(endpoint), ...) end)
  keep_due(endpoint)
  redis.call('DEL', events_key(id))
end
