-- The bytes of an upload are stored, whole; saying so again is fine.
-- ARGV  1 id
-- Answers 'ok', 'known' when they were there already, or 'absent'.
local id = ARGV[1]
if not has_upload(id, 'tenant') then return 'absent' end
local now = now_ms()
if redis.call('HSETNX', upload_key(id), 'arrived', now) == 0 then return 'known' end
local unused_ms = tonumber(redis.call('HGET', upload_key(id), 'unused_ms'))
redis.call('ZADD', ROOT .. 'uploads', 'XX', 'GT', now + unused_ms, id)
return 'ok'
