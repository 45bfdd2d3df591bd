-- Reads what is known of how long a task still takes, in one step. Position, done, total, priority and pause are those
-- of the task that it follows, if it follows one.
-- Answers {state, stage, model, cost, done, total, position or -1, ms when a retry is due or -1, id of the task it
-- follows or '', mean device ms of a task of this model or '', its mean cost or '', {workers}, now in ms, {drained
-- workers}, the priority of its queue, the pause of that or '', how many tasks its tenant may run where it runs as many
-- already, else 0}, {} when there is no such task, {'gone'} when there was
-- one.
-- takes: id tenant
-- needs: base.ROOT base.now_ms caps.cap_of caps.is_at_cap fields.BOARD fields.field_of fields.read_fields gone.is_gone
--        position.position_of position.waiting_task queue.pause_of queue.paused_queues reuse.following_key
--        task.task_key
local f = redis.call('HMGET', task_key(id), 'tenant', 'state', 'stage', 'model', 'cost', 'reuse')
if not f[1] then return is_gone(id, tenant) and {'gone'} or {} end
if f[1] ~= tenant then return {} end

local model, digest = f[4], f[6]
local follows = digest and redis.call('ZSCORE', following_key(model), digest .. ' ' .. id)
local leader = follows and redis.call('HGET', ROOT .. 'reuse', digest) or ''
local runs = follows and leader or id
local r = redis.call('HMGET', task_key(runs), 'done', 'total')

local running = waiting_task(runs)
local position = position_of(running, paused_queues())
local pause = not redis.call('ZSCORE', ROOT .. 'running', runs) and pause_of(model, running.priority) or ''

local due = math.floor(tonumber(redis.call('ZSCORE', ROOT .. 'delayed', id) or -1))
read_fields(BOARD, 'ms:' .. model, 'cost:' .. model)
return {f[2], f[3], model, f[5], r[1] or '0', r[2] or '0', position, due, leader,
  field_of(BOARD, 'ms:' .. model) or '', field_of(BOARD, 'cost:' .. model) or '', redis.call('HVALS', ROOT .. 'workers'), now_ms(), redis.call('ZRANGE', ROOT .. 'drained', 0, -1), running.priority,
  pause, is_at_cap(tenant) and cap_of(tenant) or 0}
