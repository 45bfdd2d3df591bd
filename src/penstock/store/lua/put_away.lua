-- Forgets a batch or an upload whose record is damaged: its `parts` are put aside for a week, and its id leaves the
-- `sets`. `tenant` is '' where it is not known whose it was.
-- takes: id tenant reason parts sets...
-- needs: aside.put_aside base.ROOT gone.remember_gone
put_aside(id, reason, parts)
for _, set in ipairs(sets) do
  local key = ROOT .. set
  redis.call(redis.call('TYPE', key).ok == 'set' and 'SREM' or 'ZREM', key, id)
end
if tenant ~= '' then remember_gone(id, tenant) end
return 1
