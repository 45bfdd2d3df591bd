-- Cancel the tasks of a model that wait, newest first: in a queue, for a retry, or for the result of an equal one.
-- ARGV  1 the move from waiting to canceled  2 tenant  3 model  4 priorities  5 created before (µs) or '+inf'
--       6 most to look at
-- Answers {how many were canceled, µs before which to go on or ''}
local waiting = string.match(ARGV[1], '^%u+')
local index = ROOT .. 'state:' .. ARGV[2] .. ':' .. waiting
local found = redis.call('ZREVRANGEBYSCORE', index, '(' .. ARGV[5], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[6])
local wanted, canceled, before = {}, 0, ARGV[5]
for priority in string.gmatch(ARGV[4], '%S+') do wanted[priority] = true end
for i = 1, #found, 2 do
  if not may_go_on() then return {canceled, before} end
  local f = redis.call('HMGET', task_key(found[i]), 'model', 'priority')
  if f[1] == ARGV[3] and wanted[f[2]] then
    local task = read_task(found[i])
    withdraw(task)
    finish(task, target(ARGV[1], waiting), '')
    canceled = canceled + 1
  end
  before = found[i + 1]
end
return {canceled, #found == 2 * ARGV[6] and before or ''}
