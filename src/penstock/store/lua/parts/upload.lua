-- Fields of an upload: `arrived` once all bytes are stored, `checked` once somebody has read them all and computed
-- their `sha256`, `deleted` once nobody may use them any more, and `tasks`, how many use them. The sorted set `uploads`
-- has those that no task uses by the ms when they are given up.
local UPLOAD_BYTES = 600 -- of its record in Redis and of its places in sets

local function upload_key(id)
  return ROOT .. 'upload:' .. id
end

local function has_upload(id, field)
  local f = redis.call('HMGET', upload_key(id), field, 'deleted')
  return f[1] and not f[2]
end

local function files_key(tenant, caller)
  return ROOT .. 'files:' .. tenant .. ':' .. caller
end

-- Takes an upload from the list of files, if it was one.
local function unlist_upload(id)
  local f = redis.call('HMGET', upload_key(id), 'tenant', 'caller', 'file')
  if not f[3] then return end
  redis.call('HDEL', upload_key(id), 'file')
  redis.call('ZREM', files_key(f[1], f[2]), id)
end

local function retire_upload(id)
  unlist_upload(id)
  redis.call('HSETNX', upload_key(id), 'deleted', now_ms())
  redis.call('ZADD', ROOT .. 'uploads', now_ms(), id)
end

-- Deletes the record of an upload, whose bytes count for its tenant as long as it is there.
local function forget_upload(id)
  local f = redis.call('HMGET', upload_key(id), 'tenant', 'redis_bytes', 'size')
  redis.call('DEL', upload_key(id))
  redis.call('ZREM', ROOT .. 'uploads', id)
  count_for(f[1], 'redis', -(f[2] or 0), 'storage', -(f[3] or 0))
end

local function use_upload(id)
  redis.call('HINCRBY', upload_key(id), 'tasks', 1)
  redis.call('ZREM', ROOT .. 'uploads', id)
end

-- The field of a record with its first, second ... upload: `upload`, `upload2` ... One value of more than 64 bytes would
-- cost the record its compact encoding.
local function upload_field(number)
  return number == 1 and 'upload' or 'upload' .. number
end

-- Counts one task less. After the last one the upload lives for the rest of the time that an unused one has.
local function disuse_upload(id)
  local f = redis.call('HMGET', upload_key(id), 'tenant', 'arrived', 'unused_ms')
  if not f[1] or redis.call('HINCRBY', upload_key(id), 'tasks', -1) > 0 then return end
  redis.call('ZADD', ROOT .. 'uploads', math.max(now_ms(), tonumber(f[2]) + tonumber(f[3])), id)
end

local function disuse_uploads(task)
  local number = 1
  while task[upload_field(number)] do
    disuse_upload(task[upload_field(number)])
    number = number + 1
  end
end
