-- Take the next task, unless the worker is drained: of the highest class, or of one that was passed over by `guard` claims
-- (see `choose`); inside a class by shares of device time (see parts/flows). Running tasks are in no queue, so none is
-- ever scanned past.
-- ARGV  1 moves of claim  2 worker  3 device  4 lease ms  5 guard  6 models, sorted  7 classes that the slot is for
--       8 fence: a word that no other claim has  9 round of the worker's claims
-- Answers  {id, epoch, tenant, caller, priority, failures, crashes, max retries, timeout s, waited µs, body,
--           ms in which a client was promised its end, or '', ms of a device that it should take, or ''}
--          {'', ms until a delayed task is due, or -1; 0 to ask again at once}   {'', -1, 'drained'}
--          {'', 0, 'late'} when it is the turn of one whose time is over: `claim_late` ends it and goes on
local refusal = refusal_of_claim(ARGV[2], ARGV[9])
if refusal then return refusal end
queue_due_retries()
local pool = open_pool(ARGV[6])
local head, counts = choose(pool, ARGV[6], ARGV[7], tonumber(ARGV[5]))
if not head then return nothing_to_claim() end
local task = read_task(string.match(head.place, '%S+$'))
if task.is_missing then
  redis.call('ZREM', head.queue, head.place)
  return {'', 0}
end
if lateness(task) then return {'', 0, 'late'} end
return give(pool, head, counts, task, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[8])
