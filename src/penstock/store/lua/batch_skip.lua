-- End the next lines of a batch without tasks. Only the holder of its lease may, and each line once.
-- ARGV  1 id  2 epoch  3 place of the first  4 how many  5 state  6 code of the error or ''
-- Answers 1, or 0 when the lease is lost or it is not their turn.
local id, first, count = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local f = redis.call('HMGET', batch_key(id), 'epoch', 'fed')
if f[1] ~= ARGV[2] or f[2] ~= ARGV[3] then return 0 end
local rows, ending = {}, ' -' .. ARGV[5] .. (ARGV[6] ~= '' and ' ' .. ARGV[6] or '')
for place = first, first + count - 1 do rows[#rows + 1] = place .. ending end
in_pieces(rows, function(...) redis.call('RPUSH', ROOT .. 'ends:' .. id, ...) end)
redis.call('HINCRBY', batch_key(id), 'fed', count)
redis.call('HINCRBY', batch_key(id), ARGV[5], count)
close_or_feed(id)
return 1
