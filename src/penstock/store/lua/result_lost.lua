-- Notes that the file of a result is gone, which the task `id` shows: no equal task is given it any more.
-- takes: id
-- needs: base.ROOT task.read_task task.task_key
local task = read_task(id)
local origin = task.origin or task.id
local digest = redis.call('HGET', task_key(origin), 'reuse')
if digest and redis.call('HGET', ROOT .. 'reuse', digest) == origin then redis.call('HDEL', ROOT .. 'reuse', digest) end
