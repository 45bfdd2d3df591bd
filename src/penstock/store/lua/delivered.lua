-- Writes down how a delivery went; only the holder of the event's lease may. Progress is tried once and not kept.
-- The next try comes after `wait_ms`, -1 for none; the endpoint rests for `rest_ms`; `prompt` is 'prompt' when it
-- answered promptly, which is remembered for `prompt_ms`.
-- Answers 1, or 0 when the lease is lost.
-- takes: id seq epoch delivery status wait_ms rest_ms most_kept prompt prompt_ms
-- needs: base.ROOT base.now_ms webhook.PROGRESS webhook.drop_event webhook.endpoint_of webhook.event_of
--        webhook.events_key webhook.hook_of webhook.keep_due webhook.put_event webhook.queue_event
local event = event_of(id, seq)
if not event or event.status ~= 'leased' or event.epoch ~= tonumber(epoch) then return 0 end
local now, wait, rest = now_ms(), tonumber(wait_ms), tonumber(rest_ms)
local endpoint = endpoint_of(hook_of(id))
if prompt == 'prompt' then
  redis.call('ZADD', ROOT .. 'prompt', now, endpoint)
else
  redis.call('ZREM', ROOT .. 'prompt', endpoint)
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'prompt', '-inf', now - prompt_ms, 'LIMIT', 0, 10)) do
  redis.call('ZREM', ROOT .. 'prompt', old)
  keep_due(old)
end
if rest > 0 then redis.call('HSET', ROOT .. 'resting', endpoint, now + rest) end

if event.what == PROGRESS then
  drop_event(id, event, endpoint)
  local last = event_of(id, redis.call('HGET', events_key(id), 'n'))
  if last and last.status == 'waiting' and last.epoch == 0 then queue_event(id, last, endpoint, now) end
  return 1
end
event.log = event.log or {}
event.log[#event.log + 1] = cjson.decode(delivery)
if #event.log > tonumber(most_kept) then table.remove(event.log, 1) end
event.tries = event.tries + 1
event.status = status
put_event(id, event, endpoint, wait >= 0 and now + wait or nil)
return 1
