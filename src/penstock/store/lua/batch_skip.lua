-- Ends the next `count` lines of a batch without tasks, from the place `first` on. Only the holder of the lease may,
-- and each line once. `code` is that of the error, or ''.
-- Answers 1, or 0 when the lease is lost or it is not the turn of these lines.
-- takes: id epoch first count state code
-- needs: base.ROOT base.in_pieces batch.batch_key batch.close_or_feed
local f = redis.call('HMGET', batch_key(id), 'epoch', 'fed')
if f[1] ~= epoch or f[2] ~= first then return 0 end
local rows, ending = {}, ' -' .. state .. (code ~= '' and ' ' .. code or '')
for place = tonumber(first), first + count - 1 do rows[#rows + 1] = place .. ending end
in_pieces(rows, function(...) redis.call('RPUSH', ROOT .. 'ends:' .. id, ...) end)
redis.call('HINCRBY', batch_key(id), 'fed', count)
redis.call('HINCRBY', batch_key(id), state, count)
close_or_feed(id, tonumber(count))
return 1
