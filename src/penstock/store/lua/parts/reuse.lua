-- A task that waits for the result of an equal one is in no queue but in this sorted set: `<digest> <id>`, so that
-- equal ones lie together. It is a follower, and its record says `reused`; the task that it waits for is the leader.
local function following_key(model)
  return ROOT .. 'following:' .. model
end

-- The bounds of one digest in the set; the blank is the character before '!'.
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

-- Answers whether the task had followed another.
local function unfollow(model, digest, id)
  if redis.call('ZREM', following_key(model), digest .. ' ' .. id) == 0 then return false end
  redis.call('HDEL', task_key(id), 'reused')
  return true
end

-- Makes the leader of a digest a follower, unless it has started.
local function step_down(leader, digest)
  local task = waiting_task(leader)
  if dequeue(task) then follow(task.model, digest, leader) end
end

-- The rank of a priority in the order in which priorities are served; paused queues come after all others.
local function rank_of(model, priority, paused)
  local rank = string.find(PRIORITIES, priority, 1, true)
  return paused[queue_key(model, priority)] and rank + #PRIORITIES or rank
end

-- The follower of a digest that would be served first if it waited alone. All followers have the same owner.
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

-- Makes the first follower the leader of the others, at the place in its queue that it would have had alone. An input
-- that has killed workers does so in every equal task: the new leader has as many crashes behind it as the old one.
local function lead_anew(model, digest, crashes)
  local first = first_of(model, digest)
  if not first then
    redis.call('HDEL', ROOT .. 'reuse', digest)
    return
  end
  unfollow(model, digest, first.id)
  if tonumber(crashes) > 0 then redis.call('HSET', task_key(first.id), 'crashes', crashes) end
  redis.call('HSET', ROOT .. 'reuse', digest, first.id)
  local task = read_task(first.id)
  reserve(task, expected_ms(model, sound_number(task.cost, 'cost')))
  enqueue(first)
end

-- Lets the task follow no other and lead none any more.
local function leave_reuse_group(task)
  local digest, model = task.reuse, task.model
  if not digest or (task.reused and unfollow(model, digest, task.id)) then return end
  if redis.call('HGET', ROOT .. 'reuse', digest) == task.id then lead_anew(model, digest, task.crashes) end
end

-- Ends a task with the result of an equal one, `origin` (its `id` and `held`), whose files are kept for this one too from now on.
local function answer_from(origin, task, to, how, outcome)
  held_by(task).result = held_by(origin).result
  finish(task, to, outcome, 'reused', how, 'origin', origin.id)
  redis.call('HINCRBY', ROOT .. 'shared', origin.id, 1)
end

-- Most bytes of outcomes that one script writes: each follower has a copy.
local OUTCOME_BYTES = 4000000

-- Ends the followers of a digest with the result of their leader, as long as there is time. Answers how many have
-- ended, and whether there are others.
local function answer_followers(leader, model, digest, moves, outcome)
  local count, waiting = 0, followers(model, digest)
  local origin = {id = leader, held = redis.call('HGET', task_key(leader), 'held')}
  for _, id in ipairs(waiting) do
    if not may_go_on() or count * #outcome > OUTCOME_BYTES then break end
    local follower = read_task(id)
    answer_from(origin, follower, target(moves, follower.state), 'coalesced', outcome)
    count = count + 1
  end
  return count, count < #waiting
end
