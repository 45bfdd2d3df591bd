-- Forget a batch or an upload whose record is damaged: what was there is put aside for a week.
-- ARGV  1 id  2 tenant  3 why  4 parts that are put aside  5.. sets that may have its id
local id = ARGV[1]
put_aside(id, ARGV[3], ARGV[4])
for i = 5, #ARGV do
  local key = ROOT .. ARGV[i]
  redis.call(redis.call('TYPE', key).ok == 'set' and 'SREM' or 'ZREM', key, id)
end
remember_gone(id, ARGV[2])
return 1
