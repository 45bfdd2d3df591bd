-- A script reads the record of a task once, hands it on as `task`, and writes what changes in it in one piece: every
-- command of a script costs as much as ten lines of it, and each that writes is an entry of the append-only file.
local function task_key(id)
  return ROOT .. 'task:' .. id
end

-- The fields of the record by their names, with its `id` and `key`; only these two, and `is_missing`, when there is no
-- such task: Redis may have lost it, and whoever comes upon its id somewhere takes that out and goes on.
local function read_task(id)
  local task = {id = id, key = task_key(id)}
  local flat = redis.call('HGETALL', task.key)
  task.is_missing = not flat[1]
  for i = 1, #flat, 2 do task[flat[i]] = flat[i + 1] end
  return task
end

-- Who watches this task hears of it, on a channel that is only there while somebody does.
local function publish_change(id)
  redis.call('PUBLISH', ROOT .. 'changed:' .. id, '')
end

-- State, index and counts change together, always, and with them the fields that come after: name, value, name ...
-- Answers the batch of the task, if it has one, and the place of its line.
local function move(task, to, ...)
  local index = ROOT .. 'state:' .. task.tenant .. ':'
  sound_number(task.created, 'created') -- or a damaged record would be in no list any more
  redis.call('ZREM', index .. task.state, task.id)
  redis.call('ZADD', index .. to, task.created, task.id)
  redis.call('HSET', task.key, 'state', to, ...)
  publish_change(task.id)
  return count_line(task, to)
end

-- Enter a final state: nothing of the task waits any more, its deletion is scheduled, and who waits for its end hears
-- of it: on a channel of its own, so that no worker wakes up for it.
local function finish_record(task, to, outcome, ...)
  local due = now_ms() + task.ttl_s * 1000 -- first, since it fails for a damaged record
  local batch, place = move(task, to, 'stage', 'done', 'finished', now_ms(), ...)
  if task.start_by then redis.call('ZREM', ROOT .. 'starting', task.id) end
  if task.deadline then redis.call('ZREM', ROOT .. 'deadlines', task.id) end
  redis.call('ZADD', ROOT .. 'finals', due, task.id)
  if outcome ~= '' then redis.call('SET', ROOT .. 'outcome:' .. task.id, outcome) end
  redis.call('PUBLISH', ROOT .. 'ended', task.id)
  if task.hook then post_end(task.id, to, task.hook) end
  if batch then end_line(batch, place, to, outcome) end
end

-- The same for a task whose run answers no equal ones.
local function finish(task, to, outcome, ...)
  leave_reuse_group(task)
  finish_record(task, to, outcome, ...)
end

-- The record of an ended task goes, from everywhere at once, and what only it needs in the storage is condemned: from
-- here on nobody can start, show or share what is about to be deleted.
local function forget(task)
  local index = ROOT .. 'state:' .. task.tenant .. ':' .. task.state
  assert(tonumber(task.finished), 'finished is no number') -- nothing is forgotten of a damaged record
  leave_reuse_group(task)
  redis.call('ZREM', ROOT .. 'finals', task.id)
  redis.call('ZREM', index, task.id)
  if task.idem then redis.call('DEL', ROOT .. 'idem:' .. task.idem) end
  if task.upload then disuse_upload(task.upload) end
  if task.hook then forget_events(task.id, task.hook) end
  if task.input then condemn(input_key(task.tenant, task.id) .. task.input) end
  condemn_results(task)
  redis.call('DEL', task.key, ROOT .. 'body:' .. task.id, ROOT .. 'outcome:' .. task.id, ROOT .. 'attempts:' .. task.id)
  remember_gone(task.id, task.tenant)
end

-- A task that did not get to its end is to be run again, by anyone.
local function put_back(task, to, ...)
  leave_reuse_group(task)
  move(task, to, 'stage', 'queued', ...)
  enqueue(task)
end
