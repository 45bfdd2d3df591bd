-- Notes that somebody watches these tasks: from here on each of their changes is told.
-- takes: ids...
-- needs: task.task_key
for _, id in ipairs(ids) do
  if redis.call('EXISTS', task_key(id)) == 1 then redis.call('HSET', task_key(id), 'watched', 1) end
end
