-- Notes that all bytes of an upload are stored; doing so again is fine.
-- Answers 'ok', 'known' when they were there already, or 'absent'.
-- takes: id
-- needs: base.ROOT base.now_ms upload.has_upload upload.upload_key
if not has_upload(id, 'tenant') then return 'absent' end
local now = now_ms()
if redis.call('HSETNX', upload_key(id), 'arrived', now) == 0 then return 'known' end
local unused_ms = tonumber(redis.call('HGET', upload_key(id), 'unused_ms'))
redis.call('ZADD', ROOT .. 'uploads', 'XX', 'GT', now + unused_ms, id)
return 'ok'
