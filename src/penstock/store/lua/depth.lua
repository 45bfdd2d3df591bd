-- Counts the tasks of a queue, and how long the oldest has waited.
-- Answers {how many, age of the oldest in µs, or 0}; of many callers only the first 64, by name, are
--          read: the age is for gauges, and the script must not block Redis for as long as there are callers.
-- takes: model priority
-- needs: base.now_us queue.queue_key
local queue, oldest_us, place = queue_key(model, priority), nil, nil
local after = '-'
for _ = 1, 64 do
  place = redis.call('ZRANGEBYLEX', queue, after, '+', 'LIMIT', 0, 1)[1]
  if not place then break end
  local flow, created = string.match(place, '^([^\n]+)\n(%d+) ')
  oldest_us = math.min(oldest_us or created, created)
  after = '(' .. flow .. '\11'
end
return {redis.call('ZCARD', queue), oldest_us and now_us() - oldest_us or 0}
