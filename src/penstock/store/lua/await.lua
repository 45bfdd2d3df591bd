-- Writes down inputs that are about to be stored, under keys that nobody has used before.
-- takes: keys...
-- needs: objects.await_input
for _, key in ipairs(keys) do await_input(key) end
