-- Ends a task whose record is damaged: its `parts` are put aside for a week, what can be read of the record takes their
-- place, and the task fails as any other does. Whoever held its lease has lost it.
-- `outcome` and `body` are JSON, `body` is '' when the old one stays; `fields` are name, value ... of the record.
-- Answers 1, or 0 when it has been deleted meanwhile.
-- takes: id tenant reason parts states failed_state outcome body fields...
-- needs: aside.put_aside base.ROOT base.now_ms held.grow held.held_again inline.drop_inline inline.inline_size
--        lease.end_lease queue.withdraw reuse.leave_reuse_group task.finish task.move task.read_task task.task_key
local now = now_ms()
local index, is_listed = ROOT .. 'state:' .. tenant .. ':', false
for state in string.gmatch(states, '%S+') do
  is_listed = redis.call('ZREM', index .. state, id) == 1 or is_listed
end
if not is_listed and redis.call('EXISTS', task_key(id)) == 0 then return 0 end

local counted = held_again(id)
put_aside(id, reason, parts)
redis.call('HSET', task_key(id), unpack(fields))
if body ~= '' then redis.call('SET', ROOT .. 'body:' .. id, body) end
end_lease(id)
for _, set in ipairs({'starting', 'deadlines', 'delayed'}) do redis.call('ZREM', ROOT .. set, id) end
local task = read_task(id)
task.held = task.held or counted
task.watched = 1 -- nobody knows any more
grow(task, #body)
if not task.inline then -- or nobody would ever take it out
  local lost = inline_size(id)
  if lost > 0 then drop_inline(id, lost) end
  grow(task, -lost)
end
withdraw(task)
if redis.call('ZSCORE', ROOT .. 'finals', id) then
  leave_reuse_group(task)
  grow(task, #outcome)
  move(task, failed_state, 'stage', 'done', 'finished', task.finished or now)
  redis.call('SET', ROOT .. 'outcome:' .. id, outcome)
else
  finish(task, failed_state, outcome)
end
return 1
