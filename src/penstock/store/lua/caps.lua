-- Sets how many tasks each tenant may run at once: tenant, cap ...; a tenant `*` stands for all that are not named. What
-- was set before is forgotten.
-- Answers 1, or 0 when the same was set.
-- takes: caps...
-- needs: base.ROOT base.in_pieces
local key, wanted, count = ROOT .. 'caps', {}, #caps / 2
for i = 1, #caps, 2 do wanted[caps[i]] = caps[i + 1] end
local known = redis.call('HGETALL', key)
for i = 1, #known, 2 do
  if wanted[known[i]] == known[i + 1] then count = count - 1 end
end
if count == 0 and #known == #caps then return 0 end
redis.call('DEL', key, ROOT .. 'capped')
if caps[1] then
  in_pieces(caps, function(...) redis.call('HSET', key, ...) end)
  redis.call('SET', ROOT .. 'capped', 1)
end
return 1
