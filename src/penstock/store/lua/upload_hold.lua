-- Keep an upload for so long at least: also its record, so that what is stored for it meanwhile can be found.
-- ARGV  1 id  2 ms  3 sha256 of the bytes that are stored, or about to be, as somebody has found it, or ''
-- Answers 'ok', 'other' when those of another sha256 are awaited, or there already, or 'absent'.
local id = ARGV[1]
if not has_upload(id, 'tenant') then return 'absent' end
local key = upload_key(id)
if ARGV[3] ~= '' then
  redis.call('HSETNX', key, 'sha256', ARGV[3])
  if redis.call('HGET', key, 'sha256') ~= ARGV[3] then return 'other' end
  redis.call('HSET', key, 'checked', 1)
end
local until_ms = now_ms() + tonumber(ARGV[2])
redis.call('ZADD', ROOT .. 'uploads', 'XX', 'GT', until_ms, id)
redis.call('HSET', key, 'late', math.max(until_ms, tonumber(redis.call('HGET', key, 'late'))))
return 'ok'
