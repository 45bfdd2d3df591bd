-- Counts the tasks of a queue by caller.
-- Answers {'tenant/caller', how many, ...} by name: of one tenant or, with '', of all. Of many callers only the first 64
--          are counted, as the script must not block Redis for as long as there are callers.
-- takes: model priority tenant
-- needs: queue.all_of queue.queue_key
local queue, found = queue_key(model, priority), {}
local after, last = '-', '+'
if tenant ~= '' then after, last = '[' .. tenant .. '/', '(' .. tenant .. '0' end
for _ = 1, 64 do
  local place = redis.call('ZRANGEBYLEX', queue, after, last, 'LIMIT', 0, 1)[1]
  if not place then break end
  local flow = string.match(place, '^([^\n]+)\n')
  found[#found + 1] = flow
  found[#found + 1] = redis.call('ZLEXCOUNT', queue, all_of(flow))
  after = '(' .. flow .. '\11'
end
return found
