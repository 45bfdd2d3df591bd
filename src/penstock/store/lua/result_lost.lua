-- The file of a result is gone: it is given to no equal task any more.
-- ARGV  1 id of a task that shows it
local task = read_task(ARGV[1])
local origin = task.origin or task.id
local digest = redis.call('HGET', task_key(origin), 'reuse')
if digest and redis.call('HGET', ROOT .. 'reuse', digest) == origin then redis.call('HDEL', ROOT .. 'reuse', digest) end
