-- Claims as `claim` does, and ends the late tasks that are in front. `claim` does without the parts for that, since a
-- server compiles all of a script each time.
-- The outcomes, as JSON, are those of a task that was not started in time, and of one past its deadline.
-- Answers as `claim` does, but {'', 0} when it has met so many late tasks that others should have their turn: the
-- worker asks again at once.
-- takes: moves worker device lease_ms guard models priorities fence round expire_moves expire_outcome overrun_moves
--        overrun_outcome
-- needs: base.target claim.choose claim.give claim.lateness claim.nothing_to_claim claim.refusal_of_claim
--        counting.may_go_on pools.pool_of task.finish task.read_task
local refusal = refusal_of_claim(worker, round, models)
if refusal then return refusal end
local ends = {expire = {expire_moves, expire_outcome}, overrun = {overrun_moves, overrun_outcome}}
local pool = pool_of(models)
while may_go_on() do
  local head, counts = choose(pool, models, priorities, tonumber(guard))
  if not head then return nothing_to_claim() end
  local task = read_task(string.match(head.place, '%S+$'))
  local how = ends[lateness(task)]
  if not how and not task.is_missing then
    return give(pool, head, counts, task, moves, worker, device, lease_ms, fence)
  end
  redis.call('ZREM', head.queue, head.place)
  if how then finish(task, target(how[1], task.state), how[2]) end
end
return {'', 0}
