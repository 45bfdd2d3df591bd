-- Sets how many tasks each tenant may run at once: tenant, cap ...; a tenant `*` stands for all that are not named.
-- What was set before is forgotten.
-- Answers 1, or 0 when the same was set.
-- takes: caps...
-- needs: base.ROOT base.in_pieces
local digest = caps[1] and redis.sha1hex(table.concat(caps, ' ')) or ''
if (redis.call('GET', ROOT .. 'capped') or '') == digest then return 0 end
redis.call('DEL', ROOT .. 'caps', ROOT .. 'capped')
if caps[1] then
  in_pieces(caps, function(...) redis.call('HSET', ROOT .. 'caps', ...) end)
  redis.call('SET', ROOT .. 'capped', digest)
end
return 1
