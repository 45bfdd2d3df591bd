-- Owe the last event of a task or a batch again, at once and with all its tries, whatever came of it. Its seq stays.
-- ARGV  1 id  2 tenant
-- Answers 'ok', 'none' when there is no event, or 'absent'.
local id = ARGV[1]
if redis.call('HGET', record_key(id), 'tenant') ~= ARGV[2] then return 'absent' end
for seq = tonumber(redis.call('HGET', events_key(id), 'n') or 0), 1, -1 do
  local event = event_of(id, seq)
  if event and event.what ~= PROGRESS then
    if event.status ~= 'leased' then owe(id, event, endpoint_of(hook_of(id)), now_ms()) end
    return 'ok'
  end
end
return 'none'
