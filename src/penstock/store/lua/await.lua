-- Inputs of these tasks are about to be stored.
-- ARGV  keys
for _, key in ipairs(ARGV) do await_input(key) end
