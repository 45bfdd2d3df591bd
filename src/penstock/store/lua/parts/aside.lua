-- Renames the parts of a record that cannot be read, and keeps them for a week, for whoever looks after Redis.
local ASIDE_MS = 604800000

local function put_aside(id, why, parts)
  for part in string.gmatch(parts, '%S+') do
    local key, aside = ROOT .. part .. ':' .. id, ROOT .. 'aside:' .. id .. ':' .. part
    if redis.call('EXISTS', key) == 1 then
      redis.call('RENAME', key, aside)
      redis.call('PEXPIRE', aside, ASIDE_MS)
    end
  end
  redis.call('ZREMRANGEBYSCORE', ROOT .. 'unreadable', '-inf', now_ms() - ASIDE_MS)
  redis.call('ZADD', ROOT .. 'unreadable', now_ms(), id .. ' ' .. why)
end
