-- Inputs are about to be stored, under keys that nobody has used before.
-- ARGV  keys
for _, key in ipairs(ARGV) do await_input(key) end
