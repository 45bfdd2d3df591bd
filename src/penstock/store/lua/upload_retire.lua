-- Give an upload that no task uses up: nobody can use it from now on, and its object is to be deleted. One that a task
-- uses stays until its last task is gone; it can be taken from the list of files at once.
-- ARGV  1 id  2 tenant  3 caller  4 what to do with one that a task uses: 'refuse' or 'unlist'
-- Answers 'ok' (also when it is said again), 'used' or 'absent'.
local id = ARGV[1]
local f = redis.call('HMGET', upload_key(id), 'tenant', 'caller', 'tasks')
if f[1] ~= ARGV[2] or f[2] ~= ARGV[3] then return 'absent' end
if ARGV[4] == 'unlist' then unlist_upload(id) end
if tonumber(f[3] or 0) > 0 then return 'used' end
retire_upload(id)
return 'ok'
