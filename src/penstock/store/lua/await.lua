-- Inputs are about to be stored. Under the key of one that is being deleted nothing is, lest it is deleted too.
-- ARGV  1 'new' when nobody can have used these keys before  2.. keys
-- Answers 1, or 0 when one has to wait.
if ARGV[1] ~= 'new' then
  for i = 2, #ARGV do
    if redis.call('ZSCORE', ROOT .. 'condemned', ARGV[i]) then return 0 end
  end
end
for i = 2, #ARGV do await_input(ARGV[i]) end
return 1
