-- Everything that happens at a moment goes by the clock of Redis, which may be set wrong, and right again.
local GRACE_MS = 600000

-- Gives every member of a sorted set another score.
local function move_all(key, score_of)
  local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do found[i], found[i + 1] = score_of(tonumber(found[i + 1])), found[i] end
  in_pieces(found, function(...) redis.call('ZADD', key, ...) end)
end

-- Follows the clock when it was set back by so many ms: what was due in a second is still due in a second. Moments that
-- clients were told, and deletes, stay where they are. Of the endpoints with events only the first 600 are looked at,
-- so that the script stays short.
local function move_back(ms)
  local function back(score) return score - ms end
  redis.call('DEL', ROOT .. 'grace')
  for _, set in ipairs({'delayed', 'feeding', 'condemned', 'outbox', 'outbox-prompt', 'prompt', 'workers:seen'}) do
    move_all(ROOT .. set, back)
  end
  for _, lane in ipairs({'outbox', 'outbox-prompt'}) do
    for _, endpoint in ipairs(redis.call('ZRANGE', ROOT .. lane, 0, 299)) do
      move_all(ROOT .. 'outbox:' .. endpoint, back)
    end
  end
  local resting = redis.call('HGETALL', ROOT .. 'resting')
  for i = 2, #resting, 2 do resting[i] = resting[i] - ms end
  in_pieces(resting, function(...) redis.call('HSET', ROOT .. 'resting', ...) end)
end

-- Lets deletes by time wait after nobody has looked at the clock for so many ms: it may have jumped ahead.
local function wait_before_deletes(ms)
  if ms > LONG_MS then redis.call('SET', ROOT .. 'grace', now_ms() + math.min(ms, GRACE_MS), 'PX', GRACE_MS) end
end
