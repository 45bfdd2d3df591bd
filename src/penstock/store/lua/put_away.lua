-- Forgets a batch or an upload whose record is damaged: its `parts` are put aside for a week, and its id leaves the
-- `sets`. `tenant` is '' where it is not known whose it was.
-- takes: id tenant reason parts sets...
-- needs: account.count_for aside.put_aside base.ROOT gone.remember_gone
local f = redis.pcall('HMGET', ROOT .. string.match(parts, '^%S+') .. ':' .. id, 'redis_bytes', 'stored_bytes', 'size',
  'total', 'fed')
local open = redis.pcall('SCARD', ROOT .. 'open:' .. id) -- lines of a batch
if tenant ~= '' and not f.err then
  local lines = (tonumber(f[4]) or 0) - (tonumber(f[5]) or 0) + (tonumber(open) or 0)
  count_for(tenant, 'redis', -(tonumber(f[1]) or 0), 'storage', -(tonumber(f[2] or f[3]) or 0), 'lines', -lines)
end
put_aside(id, reason, parts)
for _, set in ipairs(sets) do
  local key = ROOT .. set
  redis.call(redis.call('TYPE', key).ok == 'set' and 'SREM' or 'ZREM', key, id)
end
if tenant ~= '' then remember_gone(id, tenant) end
return 1
