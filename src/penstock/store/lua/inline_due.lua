-- Takes inputs of ended tasks, the first that ended first, for `hold_ms`: the taker stores them and then calls
-- `inline_moved`. What a taker left that died is taken again. Nothing is taken while all inputs in Redis have no more
-- bytes than `enough`. From here on the record says that the storage may have the input, so that it is deleted there too.
-- Answers {{key, bytes, ...} of each task after its id ...}
-- takes: enough most most_bytes hold_ms
-- needs: base.ROOT base.now_ms inline.inline_of inline.said_inline task.read_task
local answer, ended, left = {}, ROOT .. 'inline:ended', tonumber(most_bytes)
if tonumber(redis.call('GET', ROOT .. 'inline') or 0) <= tonumber(enough) then return answer end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ended, '-inf', now_ms(), 'LIMIT', 0, most)) do
  local task = read_task(id)
  if not task.inline then
    redis.call('ZREM', ended, id)
  else
    local bytes, rest = said_inline(task)
    left = left - bytes
    if left < 0 and answer[1] then break end
    redis.call('HSET', task.key, 'input', rest)
    redis.call('ZADD', ended, now_ms() + hold_ms, id)
    answer[#answer + 1] = id
    answer[#answer + 1] = inline_of(task)
  end
end
return answer
