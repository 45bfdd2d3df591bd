-- Deletes the records of uploads that were given up and whose objects are deleted. Where bytes may still arrive, the
-- record stays until they no longer can, and the object is deleted once more then.
-- Answers how many were deleted.
-- takes: ids...
-- needs: base.ROOT base.now_ms upload.forget_upload upload.upload_key
local count, now = 0, now_ms()
for _, id in ipairs(ids) do
  local f = redis.call('HMGET', upload_key(id), 'deleted', 'late')
  if f[1] and tonumber(f[2]) > now then
    redis.call('ZADD', ROOT .. 'uploads', f[2], id)
  elseif f[1] then
    forget_upload(id)
    count = count + 1
  end
end
return count
