-- Takes a version of a model out of the catalogue. Where it was made the default, it is so no longer; one that was made
-- the default meanwhile stays. `version` is '' for a model with one version. How fast it ran is forgotten.
-- takes: id name version
-- needs: base.ROOT fields.BOARD
redis.call('HDEL', ROOT .. 'models', id)
redis.call('HDEL', ROOT .. 'models:first', id)
redis.call('HDEL', BOARD, 'ms:' .. id, 'cost:' .. id)
local default = ROOT .. 'models:default'
if version == '' or redis.call('HGET', default, name) == version then redis.call('HDEL', default, name) end
