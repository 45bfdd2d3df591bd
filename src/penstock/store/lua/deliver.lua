-- Leases events that are due, the longest waiting endpoint first: from one lane those of prompt endpoints, from the
-- other all others. The numbers are the most events of each lane, and of one endpoint in it; `busy` is endpoint, how
-- many of its events are under way, ...
-- Answers {ms until the next is due or -1, id, tenant, endpoint, 1 when that is prompt, event (JSON), id, ...}
-- takes: lease_ms most_prompt each_prompt most_others each_others busy...
-- needs: base.ROOT base.now_ms counting.may_go_on webhook.PROGRESS webhook.drop_event webhook.event_of
--        webhook.keep_due webhook.outbox_key webhook.put_event webhook.record_key
local now = now_ms()
local under_way = {}
for i = 1, #busy, 2 do under_way[busy[i]] = tonumber(busy[i + 1]) end
local answer = {-1}

-- Answers whether there is something to deliver.
local function lease(id, event, endpoint, prompt)
  if event.what == PROGRESS and redis.call('ZSCORE', ROOT .. 'finals', id) then
    drop_event(id, event, endpoint)
    return false
  end
  event.epoch = event.epoch + 1
  event.status = 'leased'
  put_event(id, event, endpoint, now + tonumber(lease_ms))
  local tenant = redis.call('HGET', record_key(id), 'tenant')
  for _, value in ipairs({id, tenant, endpoint, prompt, cjson.encode(event)}) do answer[#answer + 1] = value end
  return true
end

local function lease_from(lane, prompt, left, most_each)
  if left <= 0 then return end
  for _, endpoint in ipairs(redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'LIMIT', 0, 1000)) do
    local room = math.min(left, most_each - (under_way[endpoint] or 0))
    if room > 0 and may_go_on() then
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', outbox_key(endpoint), '-inf', now, 'LIMIT', 0, room)) do
        if not may_go_on() then
          answer[1] = 0
          return
        end
        local id, seq = string.match(member, '^(%S+) (%d+)$')
        local event = event_of(id, seq)
        if not event then
          redis.call('ZREM', outbox_key(endpoint), member)
          keep_due(endpoint)
        elseif lease(id, event, endpoint, prompt) then
          left = left - 1
        end
      end
    end
  end
end

local prompt_lane, other_lane = ROOT .. 'outbox-prompt', ROOT .. 'outbox'
lease_from(prompt_lane, 1, tonumber(most_prompt), tonumber(each_prompt))
lease_from(other_lane, 0, tonumber(most_others), tonumber(each_others))

for _, lane in ipairs({prompt_lane, other_lane}) do
  local due = redis.call('ZRANGEBYSCORE', lane, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if due and (answer[1] < 0 or tonumber(due) - now < answer[1]) then answer[1] = tonumber(due) - now end
end
return answer
