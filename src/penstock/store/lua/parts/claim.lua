-- The answer to a worker that is given nothing, since it is drained or has given this claim up; nil for any other. What
-- a claim needs of the board is read with that; of many models few have a task that is given.
local function refusal_of_claim(worker, round, models)
  local first, drained, of_worker = string.match(models, '%S+') or '', 'drained:' .. worker, 'round:' .. worker
  local board = read_fields(BOARD, drained, of_worker, 'capped', 'paused', 'pools:' .. first, 'ms:' .. first,
    'cost:' .. first)
  if board[drained] then return {'', -1, 'drained'} end
  HAS_CAPS = board.capped
  return board[of_worker] and tonumber(round) < counting_round(board[of_worker]) and {'', -1} or nil
end

-- Puts retries that are due back into their queues: 50 at most, so that a claim stays short; the next claim goes on.
local function queue_due_retries()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. 'delayed', '-inf', now_ms(), 'LIMIT', 0, 50)) do
    local task = read_task(id)
    redis.call('ZREM', ROOT .. 'delayed', id)
    if not task.is_missing then
      redis.call('HSET', task.key, 'stage', 'queued')
      publish_change(task)
      enqueue(task)
    end
  end
end

-- The answer when nothing was found: ms until a delayed task is due, or -1; 0 when there was too much to look at.
local function nothing_to_claim()
  if HAS_MORE then return {'', 0} end
  local due = redis.call('ZRANGE', ROOT .. 'delayed', 0, 0, 'WITHSCORES')[2]
  return {'', due and math.max(0, tonumber(due) - now_ms()) or -1}
end

-- The field of each priority in a pool counts the claims that have passed it over since it was served last. Answers the
-- counts that change when a task of the priority `served` is given now, as field, value ...
local function counts_after(counts, passed_over, served)
  local changed = {}
  for _, priority in ipairs(CLASSES) do
    local count = tonumber(counts[priority] or 0)
    local new = priority == served and 0 or passed_over[priority] and count + 1 or count
    if new ~= count then
      changed[#changed + 1] = priority
      changed[#changed + 1] = new
    end
  end
  return changed
end

-- How many claims have passed each priority over. What else is needed of the pool to give a task of this tenant is read
-- with that.
local function counts_of(pool, head)
  local v = 'v:' .. head.priority
  return read_fields(pool_key(pool), v, v .. ':' .. head.tenant, unpack(CLASSES))
end

local function look_for_head(pool, models, classes, guard)
  local paused, passed_over, counts, chosen, due = paused_queues(), {}, nil, nil, nil
  for _, priority in ipairs(CLASSES) do
    if chosen then
      passed_over[priority] = redis.call('ZCOUNT', flows_key(pool, priority), '-inf', '(inf') > 0
      local count = tonumber(counts[priority] or 0)
      local is_due = passed_over[priority] and guard > 0 and count >= guard
      if is_due and (not due or count > tonumber(counts[due.priority])) then
        local head = head_of(pool, models, priority, paused)
        passed_over[priority] = head ~= nil
        due = head or due
      end
    elseif string.find(classes, priority, 1, true) then
      chosen = head_of(pool, models, priority, paused)
      counts = chosen and counts_of(pool, chosen)
    end
  end
  local head = due or chosen
  return head, head and counts_after(counts, passed_over, head.priority)
end

-- Chooses the priority to serve: the highest of those that the slot serves; but one that was passed over `guard` times
-- has its turn in any slot. Answers its head (see `head_of`) and the counts to write when that task is given; nil when
-- nothing waits that may be given. In a pool that is not there nobody is listed: then it is made.
local function choose(pool, models, classes, guard)
  local head, counts = look_for_head(pool, models, classes, guard)
  if head or not open_pool(models) then return head, counts end
  return look_for_head(pool, models, classes, guard)
end

-- How a task ends that is too late to be started: 'overrun', 'expire', or nil when it is not.
local function lateness(task)
  if task.deadline and tonumber(task.deadline) <= now_ms() then return 'overrun' end
  return task.start_by and not task.started and tonumber(task.start_by) <= now_ms() and 'expire' or nil
end

-- Gives the chosen task to a worker, and charges its owner. Answers what the worker is told.
local function give(pool, head, counts, task, moves, worker, device, lease_ms, fence)
  local now, epoch = now_ms(), task.epoch + 1
  local ms, is_measured = expected_ms(task.model, sound_number(task.cost, 'cost'))
  redis.call('ZREM', head.queue, head.place)
  local key = pool_key(pool)
  for i = 1, #counts, 2 do set_field(key, counts[i], counts[i + 1]) end
  charge(pool, head, ms)
  move(task, target(moves, task.state), 'stage', 'fetch', 'epoch', epoch, 'fence', fence, 'worker', worker,
    'device', device, 'claimed', now, 'started', task.started or now, 'pool', pool, 'charged', ms)
  if task.took or task.total then redis.call('HDEL', task.key, 'done', 'total', 'unit', 'took') end
  if task.start_by then redis.call('ZREM', ROOT .. 'starting', task.id) end
  if HAS_CAPS and cap_of(task.tenant) > 0 then redis.call('HSET', task.key, 'capped', 1) end
  redis.call('ZADD', ROOT .. 'running', now + tonumber(lease_ms), task.id)
  return {task.id, epoch, task.tenant, task.caller, head.priority, task.failures, task.crashes, task.max_retries,
    task.timeout_s, math.max(0, now_us() - tonumber(task.created)), redis.call('GET', ROOT .. 'body:' .. task.id),
    task.eta or '', is_measured and string.format('%.17g', ms) or '', inline_of(task)}
end
