-- Reads what the models of a task have said.
-- Answers {text or ''}, {} when there is no such task, {'gone', id} when there was one.
-- takes: id tenant
-- needs: gone.is_gone log.log_key task.task_key
local owner = redis.call('HGET', task_key(id), 'tenant')
if not owner and is_gone(id, tenant) then return {'gone', id} end
if owner ~= tenant then return {} end
local text = redis.pcall('GET', log_key(id))
return {type(text) == 'string' and text or ''}
