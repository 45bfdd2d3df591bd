-- Counts a request of a tenant, unless `quota` of them came in the last 60 s; no other request has this id.
-- Answers {1 or 0, how many more are let in, the ms until the oldest no longer counts}
-- takes: id tenant quota
-- needs: base.ROOT base.now_us rate.count_in rate.rate_state
local key, now = ROOT .. 'requests:' .. tenant, now_us()
local left, reset = rate_state(key, tonumber(quota), now)
if left <= 0 then return {0, 0, reset} end
return {1, count_in(key, now, id, left, reset)}
