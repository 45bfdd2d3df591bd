-- Accept a task: idempotency, rate, reuse, depth and enqueue in one step. A lost answer is healed by submitting again
-- with the same client_request_id.
-- ARGV  1 id  2 tenant  3 caller  4 model  5 priority  6 size (kilopixels, 0: unknown)  7 body (JSON)  8 fingerprint
--       9 idempotency digest or ''  10 rate limit per 60 s, 0 none  11 max depth  12 max retries  13 timeout s
--      14 start within ms or ''  15 ttl s  16 record version  17 first state  18 all priorities, highest first
--      19 finish within ms or ''  20 reuse digest or ''  21 'run' when no other's result will do  22 most followers
--      23 moves of reuse  24 'input' when there is all it needs to run  25 hook (see parts/webhook) or ''
--      26 batch or ''  27 epoch of who feeds it  28 place of the line  29 most unfinished tasks of it  30 lease ms
--      31 ms that each task ahead will take, or '' when nobody knows  32 ms that this one will
--      33 id of the upload that is its input, or ''  34 key of an input of its own in the storage, or ''
--      35 of the file of a result that is there already: '' it is not looked at, 'ask' look at it first,
--         `<task> there` or `<task> gone` for the task that has it
-- Answers  {'ok'|'replay', id, position, rate left, rate reset ms, 'hit'|'coalesced'|'', 1 when its queue is paused}
--          {'mismatch', id}
--          {'rate', retry after ms}   {'full', depth}
--          {'input'} when that is missing, and nothing else: its key is awaited from now on, so that it may be stored
--          {'late'} when its key is awaited no longer
--          {'turn'} when it is not that of this line, or not of this feeder   {'window'} when the batch has its share
--          {'upload'} when that is gone
--          {'look', task, its outcome} when a file is to be looked at before its result is given; nothing was done
local id, tenant, caller, model, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local rate_limit = tonumber(ARGV[10])
local now, paused = now_us(), paused_queues()
local rate_key = ROOT .. 'rate:' .. caller
local batch, place = ARGV[26], ARGV[28]

local function accepted(kind, task, position, queue, reused, left, reset)
  return {kind, task, position, left, reset, reused, paused[queue] and 1 or 0}
end

-- Of a task that is there: it may have been submitted with another priority than this call says.
local function accepted_before(kind, task)
  local left, reset = rate_state(rate_key, rate_limit, now)
  local there = waiting_task(task)
  if not there then return {kind, task, -1, left, reset, '', 0} end
  local reused = redis.call('HGET', task_key(task), 'reused') or ''
  return accepted(kind, task, position_of(there, paused), queue_key(there.model, there.priority), reused, left, reset)
end

if redis.call('EXISTS', task_key(id)) == 1 then -- the same call again: its answer was lost
  -- But a line may be there by another feeder, who has stored its input under another name.
  if batch ~= '' and redis.call('GET', ROOT .. 'body:' .. id) ~= ARGV[7] then return {'turn'} end
  return accepted_before('ok', id)
end

-- A line is handed in once, in its turn, by who feeds its batch now.
if batch ~= '' then
  local b = redis.call('HMGET', batch_key(batch), 'epoch', 'fed')
  if b[1] ~= ARGV[27] or b[2] ~= place then return {'turn'} end
  if redis.call('SCARD', open_key(batch)) >= tonumber(ARGV[29]) then return {'window'} end
end

if ARGV[9] ~= '' then
  local known = redis.call('GET', ROOT .. 'idem:' .. ARGV[9])
  if known then
    local first, fingerprint = string.match(known, '^(%S+) (%S+)$')
    if fingerprint ~= ARGV[8] then return {'mismatch', first} end
    return accepted_before('replay', first)
  end
end

local left, reset = 0, 0
if rate_limit > 0 then
  left, reset = rate_state(rate_key, rate_limit, now)
  if left <= 0 then return {'rate', reset} end
end

local digest, upload, own_input = ARGV[20], ARGV[33], ARGV[34]
local source = digest ~= '' and redis.call('HGET', ROOT .. 'reuse', digest)
if source and ARGV[35] == source .. ' gone' then
  redis.call('HDEL', ROOT .. 'reuse', digest)
  source = nil
end

-- The outcome of the task whose result would be given, when somebody has to look first whether its file is there.
local function unseen()
  if ARGV[35] == '' or ARGV[35] == source .. ' there' then return nil end
  local outcome = redis.call('GET', ROOT .. 'outcome:' .. source) or ''
  return string.find(outcome, '"artifact":{', 1, true) and outcome
end

-- How the task gets its result. One that must run leads nobody, so that every leader may become a follower.
local function role()
  if digest == '' or ARGV[21] == 'run' then return 'alone' end
  if not source then return 'lead' end
  local due = redis.call('ZSCORE', ROOT .. 'finals', source)
  if due then return tonumber(due) * 1000 > now and 'hit' or 'lead' end
  local of_source = redis.call('HGET', task_key(source), 'priority')
  if paused[queue_key(model, of_source)] ~= paused[queue_key(model, priority)] then return 'alone' end
  for other in string.gmatch(ARGV[18], '%S+') do
    if other == of_source then -- at least as high as its own: it waits no longer than it would alone
      local count = redis.call('ZLEXCOUNT', following_key(model), equal_to(digest))
      return count < tonumber(ARGV[22]) and 'coalesced' or 'alone'
    end
    if other == priority then return 'lead' end
  end
end

local as, ahead, in_class = role(), 0, 0
local outcome_unseen = as == 'hit' and unseen()
if outcome_unseen then return {'look', source, outcome_unseen} end
if as ~= 'hit' then
  local depth, is_higher = redis.call('ZCARD', following_key(model)), true
  for other in string.gmatch(ARGV[18], '%S+') do
    local waiting = redis.call('ZCARD', queue_key(model, other))
    depth = depth + waiting
    if other == priority then is_higher, in_class = false, waiting end
    if is_higher and not paused[queue_key(model, other)] then ahead = ahead + waiting end
  end
  if depth >= tonumber(ARGV[11]) then return {'full', depth} end
  if own_input ~= '' and ARGV[24] ~= 'input' then
    await_input(own_input)
    return {'input'}
  end
  if own_input ~= '' and redis.call('ZREM', ROOT .. 'awaited', own_input) == 0 then
    condemn(own_input) -- it may have been stored after it was deleted
    return {'late'}
  end
  if upload ~= '' and not has_upload(upload, 'arrived') then return {'upload'} end
end

local fields = {} -- that not every task has
local function put(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

if ARGV[14] ~= '' then
  put('start_by', now_ms() + ARGV[14])
  redis.call('ZADD', ROOT .. 'starting', now_ms() + ARGV[14], id)
end
if ARGV[19] ~= '' then
  put('deadline', now_ms() + ARGV[19])
  redis.call('ZADD', ROOT .. 'deadlines', now_ms() + ARGV[19], id)
end
if ARGV[9] ~= '' then
  put('idem', ARGV[9])
  redis.call('SET', ROOT .. 'idem:' .. ARGV[9], id .. ' ' .. ARGV[8])
end
if ARGV[25] ~= '' then put('hook', ARGV[25]) end
if rate_limit > 0 then
  left, reset = count_in(rate_key, now, id, left, reset)
end
if batch ~= '' then
  put('batch', place .. ' ' .. batch)
  redis.call('HINCRBY', batch_key(batch), 'fed', 1)
  redis.call('HINCRBY', batch_key(batch), ARGV[17], 1)
  redis.call('SADD', open_key(batch), place)
  redis.call('ZADD', ROOT .. 'feeding', now_ms() + ARGV[30], batch)
end

if as ~= 'hit' and digest ~= '' then put('reuse', digest) end
if as ~= 'hit' and own_input ~= '' then put('input', string.sub(own_input, #input_key(tenant, id) + 1)) end
if as ~= 'hit' and upload ~= '' then
  put('upload', upload)
  use_upload(upload)
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
  enqueue(task)
  local flow = redis.call('ZLEXCOUNT', queue_key(model, priority), all_of(flow_of(task)))
  position = ahead + ahead_in_class(model, priority, tenant, caller, flow - 1, flow, in_class + 1)
end
local reused = (as == 'hit' or as == 'coalesced') and as or ''
local answer = accepted('ok', id, position, queue_key(model, priority), reused, left, reset)
if ARGV[31] ~= '' and answer[3] >= 0 and answer[7] == 0 then
  put('eta', math.floor(answer[3] * ARGV[31] + ARGV[32]))
end

redis.call('SET', ROOT .. 'body:' .. id, ARGV[7])
redis.call('ZADD', ROOT .. 'state:' .. tenant .. ':' .. ARGV[17], now, id)
redis.call('HSET', task_key(id), 'version', ARGV[16], 'tenant', tenant, 'caller', caller, 'model', model,
  'priority', priority, 'state', ARGV[17], 'stage', 'queued', 'epoch', 0, 'failures', 0, 'crashes', 0,
  'cost', ARGV[6], 'created', now, 'max_retries', ARGV[12], 'timeout_s', ARGV[13], 'ttl_s', ARGV[15],
  unpack(fields))
if as == 'hit' then
  local outcome = redis.call('GET', ROOT .. 'outcome:' .. source) or ''
  answer_from(source, read_task(id), target(ARGV[23], ARGV[17]), as, outcome)
end
return answer
