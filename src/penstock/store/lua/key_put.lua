-- Writes the record of a managed key if the one that is there is still `before` ('' for none), and with it that of the
-- key that replaces it ('' for none). All API processes are told.
-- Answers 1, or 0 when another has changed the record meanwhile.
-- takes: id before record other other_record version
-- needs: base.ROOT
local keys = ROOT .. 'keys'
if (redis.call('HGET', keys, id) or '') ~= before then return 0 end
redis.call('HSET', keys, id, record)
if other ~= '' then redis.call('HSET', keys, other, other_record) end
redis.call('SET', ROOT .. 'keys:version', version)
redis.call('PUBLISH', ROOT .. 'keys:changed', '')
return 1
