-- Keeps an upload for `hold_ms` at least, with its record, so that what is stored for it meanwhile can be found.
-- `sha256` is that of the bytes that are stored, or about to be, as somebody has found it, or ''.
-- Answers 'ok', 'other' when bytes of another sha256 are awaited or there already, or 'absent'.
-- takes: id hold_ms sha256
-- needs: base.ROOT base.now_ms upload.has_upload upload.upload_key
if not has_upload(id, 'tenant') then return 'absent' end
local key = upload_key(id)
if sha256 ~= '' then
  redis.call('HSETNX', key, 'sha256', sha256)
  if redis.call('HGET', key, 'sha256') ~= sha256 then return 'other' end
  redis.call('HSET', key, 'checked', 1)
end
local until_ms = now_ms() + tonumber(hold_ms)
redis.call('ZADD', ROOT .. 'uploads', 'XX', 'GT', until_ms, id)
redis.call('HSET', key, 'late', math.max(until_ms, tonumber(redis.call('HGET', key, 'late'))))
return 'ok'
