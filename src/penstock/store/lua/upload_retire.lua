-- Gives up an upload that no task uses: nobody can use it from now on, and its object is to be deleted. One that a task
-- uses stays until its last task is gone; `if_used` says what happens to it: 'refuse', or 'unlist' to take it from the
-- list of files at once.
-- Answers 'ok' (also the second time), 'used' or 'absent'.
-- takes: id tenant caller if_used
-- needs: upload.retire_upload upload.unlist_upload upload.upload_key
local f = redis.call('HMGET', upload_key(id), 'tenant', 'caller', 'tasks')
if f[1] ~= tenant or f[2] ~= caller then return 'absent' end
if if_used == 'unlist' then unlist_upload(id) end
if tonumber(f[3] or 0) > 0 then return 'used' end
retire_upload(id)
return 'ok'
