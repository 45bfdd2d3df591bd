-- A script reads the record of a task once, passes it on as `task`, and writes all changes in one command: every
-- command of a script costs as much as ten lines of it, and each that writes is an entry of the append-only file.
local function task_key(id)
  return ROOT .. 'task:' .. id
end

-- The fields of the record by their names, with its `id` and `key`; only these two, and `is_missing`, when there is no
-- such task: Redis may have lost it, and a script that comes upon its id takes it out and goes on.
local function read_task(id)
  local task = {id = id, key = task_key(id)}
  local flat = redis.call('HGETALL', task.key)
  task.is_missing = not flat[1]
  for i = 1, #flat, 2 do task[flat[i]] = flat[i + 1] end
  return task
end

-- Tells those who watch this task that it has changed. Most tasks are watched by nobody: see `watch`.
local function publish_change(task)
  if task.watched then redis.call('PUBLISH', ROOT .. 'changed:' .. task.id, '') end
end

-- Changes state, index and counts of a task together, and with them the texts that were noted and the fields that
-- follow: name, value, name ...
-- Answers the batch of the task, if it has one, and the place of its line.
local function move(task, to, ...)
  local index = ROOT .. 'state:' .. task.tenant .. ':'
  sound_number(task.created, 'created') -- or a damaged record would be in no list any more
  redis.call('ZREM', index .. task.state, task.id)
  redis.call('ZADD', index .. to, task.created, task.id)
  redis.call('HSET', task.key, 'state', to, 'held', settle_account(task), ...)
  if task.texts then redis.call('MSET', unpack(task.texts)) end
  task.texts = nil
  publish_change(task)
  return count_line(task, to)
end

-- Ends a task in a final state: none of its limits of time is waited for any more, its deletion is scheduled, and those
-- who wait for its end are told, on a channel of their own, so that no worker wakes up for it.
local function finish_record(task, to, outcome, ...)
  local due = now_ms() + task.ttl_s * 1000 -- first, since it fails for a damaged record
  note_outcome(task, to, outcome)
  if outcome ~= '' then write_with(task, ROOT .. 'outcome:' .. task.id, outcome) end
  local batch, place = move(task, to, 'stage', 'done', 'finished', now_ms(), ...)
  if task.start_by then redis.call('ZREM', ROOT .. 'starting', task.id) end
  if task.deadline then redis.call('ZREM', ROOT .. 'deadlines', task.id) end
  redis.call('ZADD', ROOT .. 'finals', due, task.id)
  if task.inline then redis.call('ZADD', ROOT .. 'inline:ended', now_ms(), task.id) end
  redis.call('PUBLISH', ROOT .. 'ended', task.id)
  if task.hook then post_end(task.id, to, task.hook) end
  if batch then end_line(batch, place, to, outcome) end
end

-- The same for a task that has no result for equal ones.
local function finish(task, to, outcome, ...)
  leave_reuse_group(task)
  finish_record(task, to, outcome, ...)
end

-- Deletes all keys of an ended task at once, and condemns what only it needs in the storage: from here on nobody can
-- start, show or share what is about to be deleted.
local function forget(task)
  local index = ROOT .. 'state:' .. task.tenant .. ':' .. task.state
  assert(tonumber(task.finished), 'finished is no number') -- nothing is forgotten of a damaged record
  local inline_bytes = said_inline(task)
  leave_reuse_group(task)
  redis.call('ZREM', ROOT .. 'finals', task.id)
  redis.call('ZREM', index, task.id)
  if task.idem then redis.call('DEL', ROOT .. 'idem:' .. task.idem) end
  disuse_uploads(task)
  if task.hook then forget_events(task.id, task.hook) end
  if task.input then -- one that is in Redis as well may just be stored
    condemn(input_key(task.tenant, task.id) .. task.input, task.inline and now_ms() + LATE_MS)
  end
  if inline_bytes > 0 then drop_inline(task.id, inline_bytes) end
  uncount(task, condemn_results(task))
  redis.call('DEL', task.key, ROOT .. 'body:' .. task.id, ROOT .. 'outcome:' .. task.id, ROOT .. 'attempts:' .. task.id,
    ROOT .. 'log:' .. task.id)
  remember_gone(task.id, task.tenant)
end

-- Queues a task again whose attempt did not get to its end.
local function put_back(task, to, ...)
  leave_reuse_group(task)
  move(task, to, 'stage', 'queued', ...)
  enqueue(task)
end
