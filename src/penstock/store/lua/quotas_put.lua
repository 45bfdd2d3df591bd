-- Sets the quotas of a tenant, as JSON ('' for none), over those of the settings. All API processes are told.
-- takes: tenant own version
-- needs: base.ROOT
if own == '' then
  redis.call('HDEL', ROOT .. 'quotas', tenant)
else
  redis.call('HSET', ROOT .. 'quotas', tenant, own)
end
redis.call('SET', ROOT .. 'keys:version', version)
redis.call('PUBLISH', ROOT .. 'keys:changed', '')
