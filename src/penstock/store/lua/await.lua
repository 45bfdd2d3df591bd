-- Writes down inputs that are about to be stored, under keys that nobody has used before. One that is to be deleted is
-- passed over, and its task is refused by `submit`.
-- takes: keys...
-- needs: objects.await_input
for _, key in ipairs(keys) do await_input(key) end
