-- Notes that all bytes of an upload are stored; doing so again is fine.
-- Answers 'ok', 'known' when they were there already, or 'absent'.
-- takes: id
-- needs: account.count_for base.ROOT base.now_ms upload.has_upload upload.upload_key
if not has_upload(id, 'tenant') then return 'absent' end
local now = now_ms()
if redis.call('HSETNX', upload_key(id), 'arrived', now) == 0 then return 'known' end
local f = redis.call('HMGET', upload_key(id), 'unused_ms', 'tenant', 'size')
count_for(f[2], 'bytes_in', tonumber(f[3]))
redis.call('ZADD', ROOT .. 'uploads', 'XX', 'GT', now + f[1], id)
return 'ok'
