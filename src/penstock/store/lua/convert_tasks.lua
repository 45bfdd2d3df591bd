-- Brings tasks of the version before into the form of this one: each of their attempts was an entry of a list, and is a
-- line of a text. Tasks of another version are left alone, so that it may be repeated; and it fails for no damaged
-- record, since salvage would take all others that are still to be converted for damaged ones.
-- Answers how many there were.
-- takes: before version ids...
-- needs: base.ROOT task.task_key
local count = 0
for _, id in ipairs(ids) do
  if redis.pcall('HGET', task_key(id), 'version') == before then
    local attempts = ROOT .. 'attempts:' .. id
    local rows = redis.pcall('LRANGE', attempts, 0, -1)
    if rows[1] then redis.call('SET', attempts, table.concat(rows, '\n') .. '\n') end
    redis.call('HSET', task_key(id), 'version', version)
    count = count + 1
  end
end
return count
