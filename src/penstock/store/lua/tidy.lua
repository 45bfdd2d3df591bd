-- Drop what says nothing any more: drained workers that were not heard of for a while, and the last finish times of
-- callers which the virtual time has passed. Of the callers some are looked at, picked at random.
-- ARGV  1 ms after which a drained worker that is gone is forgotten
forget_drained(ARGV[1])
for priority in string.gmatch(PRIORITIES, '%S+') do
  local clock = ROOT .. 'clock:' .. priority
  local v = tonumber(redis.call('HGET', clock, 'v') or 0)
  local some, passed = redis.call('HRANDFIELD', clock, 100, 'WITHVALUES'), {}
  for i = 1, #some, 2 do
    if string.sub(some[i], 1, 2) == 'f:' and tonumber(some[i + 1]) <= v then passed[#passed + 1] = some[i] end
  end
  if passed[1] then redis.call('HDEL', clock, unpack(passed)) end
end
