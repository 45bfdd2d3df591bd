-- End a task whose record is damaged: what was there is put aside for a week, what can be read of it takes its place,
-- and that one fails as any other task does. Whoever held it has lost it.
-- ARGV  1 id  2 tenant  3 why  4 parts that are put aside  5 all states  6 state of a task that has failed
--       7 outcome (JSON)  8 body (JSON) or '' when it stays  9.. name, value ... of the record
-- Answers 1, or 0 when it has been deleted meanwhile.
local id, now = ARGV[1], now_ms()
local index, is_listed = ROOT .. 'state:' .. ARGV[2] .. ':', false
for state in string.gmatch(ARGV[5], '%S+') do
  is_listed = redis.call('ZREM', index .. state, id) == 1 or is_listed
end
if not is_listed and redis.call('EXISTS', task_key(id)) == 0 then return 0 end

put_aside(id, ARGV[3], ARGV[4])
redis.call('HSET', task_key(id), unpack(ARGV, 9))
if ARGV[8] ~= '' then redis.call('SET', ROOT .. 'body:' .. id, ARGV[8]) end
end_lease(id)
for _, set in ipairs({'starting', 'deadlines', 'delayed'}) do redis.call('ZREM', ROOT .. set, id) end
local task = read_task(id)
withdraw(task)
if redis.call('ZSCORE', ROOT .. 'finals', id) then
  part(task)
  move(task, ARGV[6], 'stage', 'done', 'finished', task.finished or now)
  redis.call('SET', ROOT .. 'outcome:' .. id, ARGV[7])
else
  finish(task, ARGV[6], ARGV[7])
end
return 1
