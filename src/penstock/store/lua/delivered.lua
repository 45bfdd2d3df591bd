-- Write down how a delivery went. Only the holder of the event's lease may. Progress is tried once and not kept.
-- ARGV  1 id  2 seq  3 epoch  4 delivery (JSON)  5 status  6 ms until the next try, or -1 when there is none
--       7 ms for which the endpoint is to rest  8 most deliveries to remember  9 'prompt' when it answered so
--      10 ms for which that is remembered
-- Answers 1, or 0 when the lease is lost.
local id = ARGV[1]
local event = event_of(id, ARGV[2])
if not event or event.status ~= 'leased' or event.epoch ~= tonumber(ARGV[3]) then return 0 end
local now, wait, rest = now_ms(), tonumber(ARGV[6]), tonumber(ARGV[7])
local endpoint = endpoint_of(hook_of(id))
if ARGV[9] == 'prompt' then
  redis.call('ZADD', ROOT .. 'prompt', now, endpoint)
else
  redis.call('ZREM', ROOT .. 'prompt', endpoint)
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'prompt', '-inf', now - ARGV[10], 'LIMIT', 0, 10)) do
  redis.call('ZREM', ROOT .. 'prompt', old)
  keep_due(old)
end
if rest > 0 then redis.call('HSET', ROOT .. 'resting', endpoint, now + rest) end

if event.what == PROGRESS then
  drop_event(id, event, endpoint)
  local last = event_of(id, redis.call('HGET', events_key(id), 'n'))
  if last and last.status == 'waiting' and last.epoch == 0 then owe(id, last, endpoint, now) end
  return 1
end
event.log = event.log or {}
event.log[#event.log + 1] = cjson.decode(ARGV[4])
if #event.log > tonumber(ARGV[8]) then table.remove(event.log, 1) end
event.tries = event.tries + 1
event.status = ARGV[5]
put_event(id, event, endpoint, wait >= 0 and now + wait or nil)
return 1
