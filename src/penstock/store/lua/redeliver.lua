-- Queues the last event of a task or a batch again, at once and with all its tries, whatever came of it. Its seq stays.
-- Answers 'ok', 'none' when there is no event, or 'absent'.
-- takes: id tenant
-- needs: base.now_ms webhook.PROGRESS webhook.endpoint_of webhook.event_of webhook.events_key webhook.hook_of
--        webhook.queue_event webhook.record_key
if redis.call('HGET', record_key(id), 'tenant') ~= tenant then return 'absent' end
local last
for _, seq in ipairs(redis.call('HKEYS', events_key(id))) do
  local event = tonumber(seq) and event_of(id, seq)
  if event and event.what ~= PROGRESS and (not last or event.seq > last.seq) then last = event end
end
if not last then return 'none' end
if last.status ~= 'leased' then queue_event(id, last, endpoint_of(hook_of(id)), now_ms()) end
return 'ok'
