-- Gives the next task to a worker, unless it is drained: one of the highest priority, or one of a priority that was
-- passed over by `guard` claims (see `choose`); inside a priority by shares of device time (see parts/flows). Running
-- tasks are in no queue, so that none is ever scanned past. `models` are sorted; the slot serves `priorities`; `fence`
-- is a word that no other call has; `round` counts the worker's rounds of claims. It goes on until it has given `most`
-- tasks, or has nothing to give.
-- Answers a list of tasks, and behind them, unless there are `most`, why there is no other. Each is one of
--          {id, epoch, tenant, caller, priority, failures, crashes, max retries, timeout s, waited µs, body,
--           ms within which a client was promised its end, or '', ms of the device that it should take, or '',
--           {key, bytes, ...} of the inputs that are in Redis}
--          {'', ms until a delayed task is due, or -1; 0 to ask again at once}   {'', -1, 'drained'}
--          {'', 0, 'late'} when it is the turn of a task whose time is over: `claim_late` ends it and goes on
--          {'', 0, 'damaged'} behind others, when the next one cannot be given
-- takes: moves worker device lease_ms guard models priorities fence round most
-- needs: claim.choose claim.give claim.lateness claim.nothing_to_claim claim.queue_due_retries claim.refusal_of_claim
--        pools.pool_of task.read_task
local refusal = refusal_of_claim(worker, round, models)
if refusal then return {refusal} end
queue_due_retries()
local pool = pool_of(models)

local function next_task()
  local head, counts = choose(pool, models, priorities, tonumber(guard))
  if not head then return nothing_to_claim() end
  local task = read_task(string.match(head.place, '%S+$'))
  if task.is_missing then
    redis.call('ZREM', head.queue, head.place)
    return {'', 0}
  end
  if lateness(task) then return {'', 0, 'late'} end
  return give(pool, head, counts, task, moves, worker, device, lease_ms, fence)
end

local answers = {next_task()}
while answers[#answers][1] ~= '' and #answers < tonumber(most) do
  local is_read, answer = pcall(next_task) -- those that are given already must not be lost with one that is damaged
  answers[#answers + 1] = is_read and answer or {'', 0, 'damaged'}
end
return answers
