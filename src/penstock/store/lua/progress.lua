-- Writes down the stage and the progress of a running task, and the ms of a device that its attempt has taken by then; a
-- `total` of 0 says that there is no progress, and a `took_ms` of '' that the device has not begun with it.
-- Answers 1, or 0 when the lease is lost.
-- takes: id token stage done total unit took_ms
-- needs: lease.holds task.publish_change task.task_key webhook.post_progress
local f = redis.call('HMGET', task_key(id), 'epoch', 'fence', 'hook', 'watched')
if not holds(id, f, token) then return 0 end
local told = tonumber(total) > 0 and {'done', done, 'total', total, 'unit', unit} or {}
if took_ms ~= '' then
  told[#told + 1] = 'took'
  told[#told + 1] = took_ms
end
redis.call('HSET', task_key(id), 'stage', stage, unpack(told))
publish_change({id = id, watched = f[4]})
if f[3] then post_progress(id, f[3]) end
return 1
