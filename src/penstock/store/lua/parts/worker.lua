-- A worker that is to claim nothing is in `drained`, by the ms since when, and on the board.
local function drain(worker)
  redis.call('ZADD', ROOT .. 'drained', 'NX', now_ms(), worker)
  set_field(BOARD, 'drained:' .. worker, 1)
end

local function let_claim(worker)
  redis.call('ZREM', ROOT .. 'drained', worker)
  set_field(BOARD, 'drained:' .. worker, false)
end

-- Whether a worker has said with its last renewal that it is stopping. It is asked once for all tasks of a worker.
local stopping = {}
local function was_stopping(worker)
  if worker and stopping[worker] == nil then
    local _, said = pcall(cjson.decode, redis.call('HGET', ROOT .. 'workers', worker) or '')
    stopping[worker] = type(said) == 'table' and said.state == 'DRAINING'
  end
  return stopping[worker or '']
end

-- The round of claims of a worker that counts: those of an earlier one get nothing. The board has it with the ms until
-- which it is known, so that `tidy` may forget it.
local function counting_round(text)
  local round, known_until = string.match(text, '^(%S+) (%S+)$')
  return tonumber(known_until) > now_ms() and tonumber(round) or 0
end

-- Forgets drained workers that are gone for so long: one that has lost its connection is still drained when it is back,
-- but not for ever.
local function forget_drained(after_ms)
  local drained = ROOT .. 'drained'
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', drained, '-inf', now_ms() - after_ms, 'LIMIT', 0, 100)) do
    if redis.call('HEXISTS', ROOT .. 'workers', old) == 0 then let_claim(old) end
  end
end

-- Forgets rounds of claims that nobody can come back with.
local function forget_rounds()
  local board, over = redis.call('HGETALL', BOARD), {}
  for i = 1, #board, 2 do
    local known_until = string.match(board[i], '^round:') and string.match(board[i + 1], ' (%S+)$')
    if known_until and tonumber(known_until) < now_ms() then over[#over + 1] = board[i] end
  end
  in_pieces(over, function(...) redis.call('HDEL', BOARD, ...) end)
end
