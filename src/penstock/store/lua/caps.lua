-- Sets how many tasks each tenant may run at once: tenant, cap ...; a tenant `*` stands for all that are not named.
-- What was set before is forgotten.
-- Answers 1, or 0 when the same was set.
-- takes: caps...
-- needs: base.ROOT base.in_pieces fields.BOARD fields.field_of fields.set_field
local digest = caps[1] and redis.sha1hex(table.concat(caps, ' ')) or ''
if (field_of(BOARD, 'capped') or '') == digest then return 0 end
redis.call('DEL', ROOT .. 'caps')
set_field(BOARD, 'capped', digest ~= '' and digest)
in_pieces(caps, function(...) redis.call('HSET', ROOT .. 'caps', ...) end)
return 1
