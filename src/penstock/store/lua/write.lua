-- Runs plain commands: in front of the words of each stands how many they are.
-- Answers what the commands answer.
-- takes: words...
local answers, at = {}, 1
while at <= #words do
  local last = at + tonumber(words[at])
  answers[#answers + 1] = redis.call(unpack(words, at + 1, last))
  at = last + 1
end
return answers
