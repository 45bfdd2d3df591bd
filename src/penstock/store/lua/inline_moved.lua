-- Notes that the storage has the inputs of these tasks, and takes them out of Redis. A task that was retried meanwhile
-- reads its input from the storage; of one that was deleted, `forget` has condemned it.
-- Answers how many were moved
-- takes: ids...
-- needs: held.held_by held.note held.settle_account inline.drop_inline inline.said_inline
--        task.read_task
local count = 0
for _, id in ipairs(ids) do
  local task = read_task(id)
  if task.inline and task.input then
    local bytes, held = said_inline(task), held_by(task)
    held.redis, held.input = held.redis - bytes, held.input + bytes
    note(task, 'redis', -bytes)
    note(task, 'storage', bytes)
    drop_inline(id, bytes)
    redis.call('HSET', task.key, 'held', settle_account(task))
    redis.call('HDEL', task.key, 'inline')
    count = count + 1
  end
end
return count
