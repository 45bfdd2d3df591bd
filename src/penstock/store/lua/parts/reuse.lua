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
  local f = redis.call('HMGET', task_key(leader), 'model', 'priority')
  if redis.call('ZREM', queue_key(f[1], f[2]), leader) == 1 then follow(f[1], digest, leader) end
end

-- The task follows nobody and leads nobody any more. Those who followed it take the places in their queues that they
-- would have had alone: not the head, since nobody knows whether their turn had come.
local function part(task)
  local digest, model = task.reuse, task.model
  if not digest or (task.reused and unfollow(model, digest, task.id)) then return end
  if redis.call('HGET', ROOT .. 'reuse', digest) ~= task.id then return end
  redis.call('HDEL', ROOT .. 'reuse', digest)
  for _, follower in ipairs(followers(model, digest)) do
    unfollow(model, digest, follower)
    local own = redis.call('HMGET', task_key(follower), 'priority', 'vft')
    redis.call('ZADD', queue_key(model, own[1]), own[2], follower)
    redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. model)
  end
end

-- End a task with the result of an equal one, `origin`, whose file is kept for this one too from now on.
local function answer_from(origin, task, to, how, outcome)
  finish(task, to, outcome, 'reused', how, 'origin', origin)
  redis.call('HINCRBY', ROOT .. 'shared', origin, 1)
end
