-- Puts what the version before had in keys of its own on the board: the pace of models, caps, paused queues and drained
-- workers. Its pools are dropped, some in each call: a worker makes its pool anew, and in that all callers start with
-- equal shares.
-- Answers 1 when there was something to convert, else 0.
-- needs: base.ROOT core.PRIORITIES fields.BOARD fields.field_of fields.read_fields fields.set_field pools.drop_pool
local MOST = 3
local pools, strays = redis.call('HGETALL', ROOT .. 'pools'), {}
for i = 1, #pools, 2 do
  local first = string.match(pools[i + 1], '%S+') or ''
  if not string.find(field_of(BOARD, 'pools:' .. first) or '', pools[i], 1, true) then strays[#strays + 1] = pools[i] end
end
local unseen = {}
for _, worker in ipairs(redis.call('ZRANGE', ROOT .. 'drained', 0, -1)) do unseen[#unseen + 1] = 'drained:' .. worker end
local board = read_fields(BOARD, 'paused', unpack(unseen))
for i = #unseen, 1, -1 do
  if board[unseen[i]] then table.remove(unseen, i) end
end
local paused = not board.paused and table.concat(redis.call('HKEYS', ROOT .. 'paused'), ' ') or ''
local has_keys = redis.call('EXISTS', ROOT .. 'pace', ROOT .. 'capped') > 0
if not (strays[1] or unseen[1] or paused ~= '' or has_keys) then return 0 end

for i = 1, math.min(MOST, #strays) do
  local pool = strays[i]
  drop_pool(pool)
  for priority in string.gmatch(PRIORITIES, '%S+') do redis.call('DEL', ROOT .. 'clock:' .. pool .. ':' .. priority) end
  redis.call('DEL', ROOT .. 'passed:' .. pool)
end
for _, field in ipairs(unseen) do set_field(BOARD, field, 1) end
if paused ~= '' then set_field(BOARD, 'paused', paused) end
local pace, capped = redis.call('HGETALL', ROOT .. 'pace'), redis.call('GET', ROOT .. 'capped')
for i = 1, #pace, 2 do set_field(BOARD, pace[i], pace[i + 1]) end
if capped then set_field(BOARD, 'capped', capped) end
redis.call('DEL', ROOT .. 'pace', ROOT .. 'capped')
return 1
