-- Takes off keys and prefixes that were condemned and are deleted now.
-- takes: entries...
-- needs: base.ROOT
redis.call('ZREM', ROOT .. 'condemned', unpack(entries))
