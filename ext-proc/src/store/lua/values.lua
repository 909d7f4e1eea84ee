-- ARGV  prefix, epoch, counters...
-- Returns {moment, the counters' values, 0 where there is none}
local keys, answer = {}, {moment}
for i = 3, #ARGV do keys[i - 2] = P .. 'value:' .. ARGV[i] end
local found = values(keys)
for i = 1, #keys do answer[i + 1] = found[i] or 0 end
return answer
