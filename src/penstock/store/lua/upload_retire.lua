-- Give an upload that no task uses up: nobody can use it from now on, and its object is to be deleted.
-- ARGV  1 id  2 tenant  3 caller
-- Answers 'ok' (also when it is said again), 'used' or 'absent'.
local id = ARGV[1]
local f = redis.call('HMGET', upload_key(id), 'tenant', 'caller', 'tasks')
if f[1] ~= ARGV[2] or f[2] ~= ARGV[3] then return 'absent' end
if tonumber(f[3] or 0) > 0 then return 'used' end
retire_upload(id)
return 'ok'
