-- Write an upload down before any byte of it is stored, so that none is ever without a record.
-- ARGV  1 id  2 tenant  3 caller  4 size  5 content type  6 sha256 or ''  7 digest of its token or ''
--       8 ms for which its bytes may be sent  9 ms after that in which they may still arrive  10 ms that it lives unused
--      11 rate limit per 60 s, 0 none  12 facts of the file that it is listed as, as JSON, or ''
-- Answers {'ok', ms until which its bytes may be sent, rate left, rate reset ms} or {'rate', retry after ms}
local id, limit, now = ARGV[1], tonumber(ARGV[11]), now_us()
local key, rate_key = upload_key(id), ROOT .. 'uploadrate:' .. ARGV[3]
local left, reset = rate_state(rate_key, limit, now)
local known = redis.call('HGET', key, 'url_until') -- the same call again: its answer was lost
if known then return {'ok', tonumber(known), left, reset} end
if limit > 0 then
  if left <= 0 then return {'rate', reset} end
  left, reset = count_in(rate_key, now, id, left, reset)
end
local url_until = now_ms() + tonumber(ARGV[8])
local late = url_until + tonumber(ARGV[9])
redis.call('HSET', key, 'tenant', ARGV[2], 'caller', ARGV[3], 'size', ARGV[4], 'type', ARGV[5], 'created', now_ms(),
  'url_until', url_until, 'late', late, 'unused_ms', ARGV[10])
if ARGV[6] ~= '' then redis.call('HSET', key, 'sha256', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', key, 'token', ARGV[7]) end
if ARGV[12] ~= '' then
  redis.call('HSET', key, 'file', ARGV[12])
  redis.call('ZADD', files_key(ARGV[2], ARGV[3]), now, id)
end
redis.call('ZADD', ROOT .. 'uploads', math.max(late, now_ms() + tonumber(ARGV[10])), id)
return {'ok', url_until, left, reset}
