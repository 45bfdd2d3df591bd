-- The same when late tasks are in front: they are ended first. `claim` does without this, since it would take time for
-- nothing.
-- ARGV  1 moves of claim  2 worker  3 device  4 lease ms  5 guard  6 models, sorted  7 classes that the slot is for
--       8 fence: a word that no other claim has  9 round of the worker's claims
--      10 moves of expire  11 outcome of an expired task (JSON)
--      12 moves of overrun  13 outcome of one past its deadline (JSON)
-- Answers as `claim` does, but {'', 0} when it has met so many late tasks that others should have their turn: ask again
-- at once.
local refusal = refusal_of_claim(ARGV[2], ARGV[9])
if refusal then return refusal end
local ends = {expire = {ARGV[10], ARGV[11]}, overrun = {ARGV[12], ARGV[13]}}
local pool = open_pool(ARGV[6])
while may_go_on() do
  local head, counts = choose(pool, ARGV[6], ARGV[7], tonumber(ARGV[5]))
  if not head then return nothing_to_claim() end
  local task = read_task(string.match(head.place, '%S+$'))
  local how = ends[lateness(task)]
  if not how and not task.is_missing then
    return give(pool, head, counts, task, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[8])
  end
  redis.call('ZREM', head.queue, head.place)
  if how then finish(task, target(how[1], task.state), how[2]) end
end
return {'', 0}
