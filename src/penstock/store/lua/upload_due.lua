-- Gives up the uploads that no task has used for too long. The caller deletes their objects, and then forgets them.
-- Answers id, tenant, id, tenant ... of these, and of those given up before whose objects may still be there.
-- takes: most
-- needs: base.due_to_go upload.retire_upload upload.upload_key
local answer = {}
for _, id in ipairs(due_to_go('uploads', most)) do
  retire_upload(id)
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', upload_key(id), 'tenant')
end
return answer
