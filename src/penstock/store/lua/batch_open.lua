-- Begin to receive a batch. It is deleted again, with the parts that are stored by then, unless it is started in time.
-- ARGV  1 id  2 tenant  3 caller  4 rate limit per 60 s, 0 none  5 most unfinished batches of a caller
--       6 ms in which the next part has to come  7 idempotency digest or ''
-- Answers {'ok', rate left, rate reset ms}   {'rate', retry after ms}   {'many', unfinished batches}
local id, caller, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local unfinished, rate_key, now = ROOT .. 'unfinished:' .. caller, ROOT .. 'rate:' .. caller, now_us()
local left, reset = 0, 0
if limit > 0 then left, reset = rate_state(rate_key, limit, now) end
if redis.call('EXISTS', batch_key(id)) == 1 then return {'ok', left, reset} end -- the same call again
local is_known = ARGV[7] ~= '' and redis.call('EXISTS', ROOT .. 'idem:' .. ARGV[7]) == 1
if not is_known then
  if limit > 0 and left <= 0 then return {'rate', reset} end
  local count = redis.call('SCARD', unfinished)
  if count >= tonumber(ARGV[5]) then return {'many', count} end
end
if limit > 0 then left, reset = count_in(rate_key, now, id, left, reset) end
redis.call('HSET', batch_key(id), 'tenant', ARGV[2], 'caller', caller, 'parts', 0)
redis.call('SADD', unfinished, id)
redis.call('ZADD', ROOT .. 'closed', now_ms() + tonumber(ARGV[6]), id)
return {'ok', left, reset}
