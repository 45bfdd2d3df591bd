-- Who waits for the result of an equal task is in no queue but here: `<digest> <id>`, so that equal ones lie together.
-- Such a one is a follower, its record says `reused`, and the task that it waits for is the leader.
local function following_key(model)
  return ROOT .. 'following:' .. model
end

-- The bounds of one digest in it; the blank is the character before '!'.
local function equal_to(digest)
  return '[' .. digest .. ' ', '(' .. digest .. '!'
end

local function followers(model, digest)
  local found = redis.call('ZRANGEBYLEX', following_key(model), equal_to(digest))
  for i, member in ipairs(found) do found[i] = string.sub(member, #digest + 2) end
  return found
end

local function follow(model, digest, id)
  redis.call('ZADD', following_key(model), 0, digest .. ' ' .. id)
  redis.call('HSET', task_key(id), 'reused', 'coalesced')
end

-- Answers whether it had followed another.
local function unfollow(model, digest, id)
  if redis.call('ZREM', following_key(model), digest .. ' ' .. id) == 0 then return false end
  redis.call('HDEL', task_key(id), 'reused')
  return true
end

-- The leader of a digest follows too, unless it has started.
local function step_down(leader, digest)
  local task = waiting_task(leader)
  if dequeue(task) then follow(task.model, digest, leader) end
end

-- The place of a class in the order in which classes are served; those of paused queues come after all others.
local function rank_of(model, priority, paused)
  local rank = string.find(PRIORITIES, priority, 1, true)
  return paused[queue_key(model, priority)] and rank + #PRIORITIES or rank
end

-- Of those who wait for the result of a digest, who all have the same owner, the one that would be served first alone.
local function first_of(model, digest)
  local paused, best, best_rank = paused_queues(), nil, nil
  for _, id in ipairs(followers(model, digest)) do
    local task = waiting_task(id)
    local rank = rank_of(model, task.priority, paused)
    if not best or rank < best_rank or (rank == best_rank and place_of(task) < place_of(best)) then
      best, best_rank = task, rank
    end
  end
  return best
end

-- The first of those who wait leads the others from now on, at the place in its queue that it would have had alone. What
-- has killed workers does so in every equal task: it has as many deaths behind it as the one that led before.
local function lead_anew(model, digest, crashes)
  local first = first_of(model, digest)
  if not first then
    redis.call('HDEL', ROOT .. 'reuse', digest)
    return
  end
  unfollow(model, digest, first.id)
  if tonumber(crashes) > 0 then redis.call('HSET', task_key(first.id), 'crashes', crashes) end
  redis.call('HSET', ROOT .. 'reuse', digest, first.id)
  enqueue(first)
end

-- The task follows nobody and leads nobody any more.
local function leave_reuse_group(task)
  local digest, model = task.reuse, task.model
  if not digest or (task.reused and unfollow(model, digest, task.id)) then return end
  if redis.call('HGET', ROOT .. 'reuse', digest) == task.id then lead_anew(model, digest, task.crashes) end
end

-- End a task with the result of an equal one, `origin`, whose file is kept for this one too from now on.
local function answer_from(origin, task, to, how, outcome)
  finish(task, to, outcome, 'reused', how, 'origin', origin)
  redis.call('HINCRBY', ROOT .. 'shared', origin, 1)
end

-- Bytes of outcomes that one script writes: each who is answered has its own.
local OUTCOME_BYTES = 4000000

-- End those who wait for the result of this digest, which `leader` has, as long as there is time. Answers how many, and
-- whether there are others.
local function answer_followers(leader, model, digest, moves, outcome)
  local count, waiting = 0, followers(model, digest)
  for _, id in ipairs(waiting) do
    if not may_go_on() or count * #outcome > OUTCOME_BYTES then break end
    local follower = read_task(id)
    answer_from(leader, follower, target(moves, follower.state), 'coalesced', outcome)
    count = count + 1
  end
  return count, count < #waiting
end
