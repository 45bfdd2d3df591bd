-- How long tasks of a model take on a device: two moving averages, of the time and of the size, whose quotient is the
-- time for a size, so that no single odd task spoils it. Sizes are in kilopixels, 0 when unknown.
local UNMEASURED_MS = 1000
local SHORTEST_MS = 0.1

-- The two averages of a model, each nil while there is none.
local function pace_of(model)
  local ms, size = 'ms:' .. model, 'cost:' .. model
  local board = read_fields(BOARD, ms, size)
  return tonumber(board[ms] or nil), tonumber(board[size] or nil)
end

-- The ms of a device that a task of this size should take, and whether that was measured.
local function expected_ms(model, size)
  local ms, mean_size = pace_of(model)
  if not ms then return size > 0 and size or UNMEASURED_MS, false end
  if size > 0 and mean_size then ms = ms * size / mean_size end
  return math.max(ms, SHORTEST_MS), true
end

local function learn(model, size, ms)
  local mean_ms, mean_size = pace_of(model)
  local function mean(old, new) return old and old + (new - old) / 10 or new end
  set_field(BOARD, 'ms:' .. model, mean(mean_ms, ms))
  if size > 0 then set_field(BOARD, 'cost:' .. model, mean(mean_size, size)) end
end

-- The device time of an attempt that is ended from outside, as far as it was told: nothing before the device began with
-- it; then the time of the tiles that were done and of the next one, which is that of the others. Before the first was
-- done, it is what was expected.
local BEFORE_DEVICE = 'queued fetch load prepare'
local function taken_ms(task)
  if string.find(BEFORE_DEVICE, task.stage, 1, true) then return 0 end
  local charged, took = sound_number(task.charged or 0, 'charged'), task.took and sound_number(task.took, 'took')
  local done, total = tonumber(task.done), tonumber(task.total)
  if task.stage ~= 'infer' then return took or charged end
  if not total then return took and charged or 0 end
  local tiles = math.min(total, done + 1)
  return took and done > 0 and took * tiles / done or charged * tiles / total
end
