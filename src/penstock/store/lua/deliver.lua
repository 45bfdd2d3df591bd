-- Lease events that are due, the longest waiting endpoint first.
-- ARGV  1 lease ms  2 most events  3 most of one endpoint  4.. endpoint, how many of its are under way, ...
-- Answers {ms until the next is due or -1, id, tenant, endpoint, event (JSON), id, ...}
local now, left = now_ms(), tonumber(ARGV[2])
local under_way = {}
for i = 4, #ARGV, 2 do under_way[ARGV[i]] = tonumber(ARGV[i + 1]) end
local answer = {-1}

local function lease(id, event, endpoint)
  if event.what == PROGRESS and redis.call('ZSCORE', ROOT .. 'finals', id) then
    return drop_event(id, event, endpoint)
  end
  event.epoch = event.epoch + 1
  event.status = 'leased'
  put_event(id, event, endpoint, now + tonumber(ARGV[1]))
  for _, part in ipairs({id, redis.call('HGET', record_key(id), 'tenant'), endpoint, cjson.encode(event)}) do
    answer[#answer + 1] = part
  end
  left = left - 1
end

for _, endpoint in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'outbox', '-inf', now, 'LIMIT', 0, 1000)) do
  local room = math.min(left, tonumber(ARGV[3]) - (under_way[endpoint] or 0))
  if room > 0 then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', outbox_key(endpoint), '-inf', now, 'LIMIT', 0, room)) do
      local id, seq = string.match(member, '^(%S+) (%d+)$')
      lease(id, event_of(id, seq), endpoint)
    end
  end
end

local due = redis.call('ZRANGEBYSCORE', ROOT .. 'outbox', '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
if due then answer[1] = tonumber(due) - now end
return answer
