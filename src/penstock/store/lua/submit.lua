-- Accepts a task: idempotency, rate, reuse, depth and enqueue in one step. A lost answer is healed by submitting again
-- with the same client_request_id. A value that is not there is ''.
--   cost            kilopixels, 0 when unknown
--   request_digest  of the client_request_id
--   rate_limit      of the caller, per 60 s, 0 for none
--   quotas          of the tenant (see parts/quotas)
--   state           of a new task
--   reuse_digest    of what equal tasks share
--   must_run        'run' when no other's result will do
--   is_stored       'stored' when its own input is in the storage
--   hook            see parts/webhook
--   batch           of a line, with the `feeder_epoch` of the lease under which it is fed, the `place` of the line, the
--                   most unfinished tasks of the batch (`window`), and how long the lease then lasts (`lease_ms`)
--   ahead_ms        what each task ahead takes, and `own_ms` what this one takes, where they are known
--   uploads         ids of the uploads that it uses, each once
--   own_input       key of an input of its own in the storage, or the prefix of several, with its size (`input_bytes`)
--   inline          the same input as key, bytes ..., where it may stay in Redis while all of them have no more than
--                   `inline_budget` bytes
--   file_seen       of the files of a result that is there: '' do not look at them, 'ask' look at them first, `<task>
--                   there` or `<task> gone` somebody has looked at those of this task
-- Answers  {'ok'|'replay', id, position, rate left, rate reset ms, 'hit'|'coalesced'|'', 1 when its queue is paused,
--           submits left of the tenant's quota, or -1, and the ms until there are more}
--          {'mismatch', id}
--          {'rate', retry after ms}   {'full', depth}   {'quota', its name, what it allows, retry after ms}
--          {'input'} when that has to be stored, and nothing else: its key is awaited from now on
--          {'late'} when its key is awaited no longer, or cannot be since it is to be deleted
--          {'turn'} when it is not that of this line, or not of this feeder   {'window'} when the batch has its share
--          {'upload', id} when that is gone
--          {'look', task, its outcome} when its files are to be looked at before its result is given; nothing was done
-- takes: id tenant caller model priority cost body fingerprint request_digest rate_limit quotas max_depth max_retries
--        timeout_s start_within_ms ttl_s version state finish_within_ms reuse_digest must_run max_followers
--        reuse_moves is_stored hook batch feeder_epoch place window lease_ms ahead_ms own_ms uploads own_input
--        input_bytes file_seen inline_budget inline...
-- needs: account.count_for account.list_tenant base.ROOT base.now_ms base.now_us base.target batch.batch_key
--        batch.open_key core.PRIORITIES fields.BOARD fields.read_fields held.TASK_BYTES held.held_text
--        inline.admit_inline inline.inline_key objects.LATE_MS objects.await_input objects.condemn objects.has_files
--        objects.input_key pace.expected_ms position.ahead_in_class position.position_of position.waiting_task
--        queue.enqueue queue.paused_queues queue.queue_key quotas.beyond_redis quotas.beyond_storage
--        quotas.beyond_tasks quotas.limits_of quotas.submits_key rate.count_in rate.rate_state reuse.answer_from
--        reuse.equal_to reuse.follow reuse.following_key reuse.step_down task.read_task task.task_key upload.has_upload
--        upload.upload_field upload.use_upload
rate_limit = tonumber(rate_limit)
read_fields(BOARD, 'paused', 'pools:' .. model, 'ms:' .. model, 'cost:' .. model)
local now, paused = now_us(), paused_queues()
local rate_key = ROOT .. 'rate:' .. tenant .. '/' .. caller
local limits = limits_of(quotas)
local most_submits, submits_left, submits_reset = batch == '' and limits.submits_per_minute, -1, 0
if most_submits then submits_left, submits_reset = rate_state(submits_key(tenant), most_submits, now) end

local function accepted(kind, task, position, queue, reused, left, reset)
  return {kind, task, position, left, reset, reused, paused[queue] and 1 or 0, submits_left, submits_reset}
end

-- The answer for a task that is there: it may have been submitted with another priority than this call says.
local function accepted_before(kind, task)
  local left, reset = rate_state(rate_key, rate_limit, now)
  local there = waiting_task(task)
  if not there then return accepted(kind, task, -1, '', '', left, reset) end
  local reused = redis.call('HGET', task_key(task), 'reused') or ''
  return accepted(kind, task, position_of(there, paused), queue_key(there.model, there.priority), reused, left, reset)
end

if redis.call('EXISTS', task_key(id)) == 1 then -- the same call again: its answer was lost
  -- A line may have been enqueued by another feeder, which has stored its input under another name.
  if batch ~= '' and redis.call('GET', ROOT .. 'body:' .. id) ~= body then return {'turn'} end
  return accepted_before('ok', id)
end

-- A line is enqueued once, in its turn, by the feeder that holds the lease of its batch.
if batch ~= '' then
  local b = redis.call('HMGET', batch_key(batch), 'epoch', 'fed')
  if b[1] ~= feeder_epoch or b[2] ~= place then return {'turn'} end
  if redis.call('SCARD', open_key(batch)) >= tonumber(window) then return {'window'} end
end

if request_digest ~= '' then
  local known = redis.call('GET', ROOT .. 'idem:' .. request_digest)
  if known then
    local first, its_fingerprint = string.match(known, '^(%S+) (%S+)$')
    if its_fingerprint ~= fingerprint then return {'mismatch', first} end
    return accepted_before('replay', first)
  end
end

local left, reset = 0, 0
if rate_limit > 0 then
  left, reset = rate_state(rate_key, rate_limit, now)
  if left <= 0 then return {'rate', reset} end
end
if most_submits and submits_left <= 0 then return {'quota', 'submits_per_minute', most_submits, submits_reset} end

local digest = reuse_digest
local source = digest ~= '' and redis.call('HGET', ROOT .. 'reuse', digest)
if source and file_seen == source .. ' gone' then
  redis.call('HDEL', ROOT .. 'reuse', digest)
  source = nil
end

-- The outcome of the task whose result would be given, when the API has to look first whether its files are there.
local function unseen()
  if file_seen == '' or file_seen == source .. ' there' then return nil end
  local outcome = redis.call('GET', ROOT .. 'outcome:' .. source) or ''
  return has_files(outcome) and outcome
end

-- How the task gets its result. `source` is the leader: the task that equal ones wait for, or that has their result.
--
--   the source                                       the role
--   -----------------------------------------------  ---------------------------------------------------------------
--   any, but the task shares nothing, or must run    alone: it leads none, so that every leader may become a follower
--   none                                             lead
--   has ended, and its result is kept                hit: the task ends at once with that result
--   has ended, and its retention is over             lead
--   waits, and one of the two queues is paused       alone: neither may hold up the other
--   is of a lower priority                           lead: the source follows, unless it runs
--   is of the same or a higher priority              coalesced: the task waits no longer than it would alone
--   the same, but `max_followers` wait already       alone
local function role()
  if digest == '' or must_run == 'run' then return 'alone' end
  if not source then return 'lead' end
  local due = redis.call('ZSCORE', ROOT .. 'finals', source)
  if due then return tonumber(due) * 1000 > now and 'hit' or 'lead' end
  local of_source = redis.call('HGET', task_key(source), 'priority')
  if paused[queue_key(model, of_source)] ~= paused[queue_key(model, priority)] then return 'alone' end
  for other in string.gmatch(PRIORITIES, '%S+') do
    if other == of_source then
      local count = redis.call('ZLEXCOUNT', following_key(model), equal_to(digest))
      return count < tonumber(max_followers) and 'coalesced' or 'alone'
    end
    if other == priority then return 'lead' end
  end
end

local as, ahead, in_class = role(), 0, 0
local outcome_unseen = as == 'hit' and unseen()
if outcome_unseen then return {'look', source, outcome_unseen} end

local held_bytes = TASK_BYTES + #body
input_bytes = as ~= 'hit' and own_input ~= '' and tonumber(input_bytes) or 0
own_ms = tonumber(own_ms) or limits.device_seconds_per_day and expected_ms(model, tonumber(cost)) or 0
local reserved_ms = (as == 'lead' or as == 'alone') and math.ceil(own_ms) or 0
local is_beyond = quotas ~= '' and (beyond_redis(limits, tenant, held_bytes)
  or as ~= 'hit' and (beyond_storage(limits, tenant, input_bytes) or beyond_tasks(limits, tenant, state, reserved_ms)))
if is_beyond then return is_beyond end

-- Whether its input stays in Redis. Inputs fill a tenant's quota of Redis to one half at most: the records of tasks need
-- the rest.
local function takes_inline()
  local half = (limits.redis_bytes or 0) / 2
  return inline[1] and not beyond_redis(limits, tenant, held_bytes + input_bytes + half)
    and admit_inline(input_bytes, tonumber(inline_budget))
end

local inline_bytes, stored_bytes = 0, input_bytes
if as ~= 'hit' then
  local depth, is_higher = redis.call('ZCARD', following_key(model)), true
  for other in string.gmatch(PRIORITIES, '%S+') do
    local waiting = redis.call('ZCARD', queue_key(model, other))
    depth = depth + waiting
    if other == priority then is_higher, in_class = false, waiting end
    if is_higher and not paused[queue_key(model, other)] then ahead = ahead + waiting end
  end
  if depth >= tonumber(max_depth) then return {'full', depth} end
  for upload in string.gmatch(uploads, '%S+') do
    if not has_upload(upload, 'arrived') then return {'upload', upload} end
  end
  if own_input ~= '' and is_stored ~= 'stored' then
    if not takes_inline() then
      return {await_input(own_input) and 'input' or 'late'}
    end
    redis.call('HSET', inline_key(id), unpack(inline))
    inline_bytes, stored_bytes = input_bytes, 0
  elseif own_input ~= '' and redis.call('ZREM', ROOT .. 'awaited', own_input) == 0 then
    -- It may have been stored after it was deleted, and who has deleted it may not have written that down yet.
    condemn(own_input, now_ms() + LATE_MS)
    return {'late'}
  end
end

local fields = {} -- those that not every task has
local function put(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

if start_within_ms ~= '' then
  put('start_by', now_ms() + start_within_ms)
  redis.call('ZADD', ROOT .. 'starting', now_ms() + start_within_ms, id)
end
if finish_within_ms ~= '' then
  put('deadline', now_ms() + finish_within_ms)
  redis.call('ZADD', ROOT .. 'deadlines', now_ms() + finish_within_ms, id)
end
if request_digest ~= '' then
  put('idem', request_digest)
  redis.call('SET', ROOT .. 'idem:' .. request_digest, id .. ' ' .. fingerprint)
end
if hook ~= '' then put('hook', hook) end
if rate_limit > 0 then
  left, reset = count_in(rate_key, now, id, left, reset)
end
if most_submits then
  submits_left, submits_reset = count_in(submits_key(tenant), now, id, submits_left, submits_reset)
end
if batch ~= '' then
  put('batch', place .. ' ' .. batch)
  redis.call('HINCRBY', batch_key(batch), 'fed', 1)
  redis.call('HINCRBY', batch_key(batch), state, 1)
  redis.call('SADD', open_key(batch), place)
  redis.call('ZADD', ROOT .. 'feeding', now_ms() + lease_ms, batch)
end

if as ~= 'hit' and digest ~= '' then put('reuse', digest) end
if as ~= 'hit' and own_input ~= '' then
  local rest = string.sub(own_input, #input_key(tenant, id) + 1)
  if inline_bytes > 0 then put('inline', inline_bytes .. ' ' .. rest) else put('input', rest) end
end
if as ~= 'hit' then
  local number = 1
  for upload in string.gmatch(uploads, '%S+') do
    put(upload_field(number), upload)
    use_upload(upload)
    number = number + 1
  end
end
local position = -1
if as == 'coalesced' then
  follow(model, digest, id)
elseif as ~= 'hit' then
  if as == 'lead' then
    if source then step_down(source, digest) end
    redis.call('HSET', ROOT .. 'reuse', digest, id)
  end
  local task = {id = id, tenant = tenant, caller = caller, model = model, priority = priority, created = now}
  local flow = enqueue(task)
  position = ahead + ahead_in_class(model, priority, tenant, caller, flow - 1, flow, in_class + 1)
end
local reused = (as == 'hit' or as == 'coalesced') and as or ''
local answer = accepted('ok', id, position, queue_key(model, priority), reused, left, reset)
if ahead_ms ~= '' and answer[3] >= 0 and answer[7] == 0 then
  put('eta', math.floor(answer[3] * ahead_ms + own_ms))
end

count_for(tenant, 'submitted', 1, 'bytes_in', #body + input_bytes, 'redis', held_bytes + inline_bytes,
  'storage', stored_bytes, 'reserved_ms', reserved_ms)
redis.call('SET', ROOT .. 'body:' .. id, body)
redis.call('ZADD', ROOT .. 'state:' .. tenant .. ':' .. state, now, id)
list_tenant(tenant)
redis.call('HSET', task_key(id), 'version', version, 'tenant', tenant, 'caller', caller, 'model', model,
  'priority', priority, 'state', state, 'stage', 'queued', 'epoch', 0, 'failures', 0, 'crashes', 0,
  'cost', cost, 'created', now, 'max_retries', max_retries, 'timeout_s', timeout_s, 'ttl_s', ttl_s,
  'held', held_text(held_bytes + inline_bytes, stored_bytes, 0, reserved_ms), unpack(fields))
if as == 'hit' then
  local outcome = redis.call('GET', ROOT .. 'outcome:' .. source) or ''
  local origin = {id = source, held = redis.call('HGET', task_key(source), 'held')}
  answer_from(origin, read_task(id), target(reuse_moves, state), as, outcome)
end
return answer
