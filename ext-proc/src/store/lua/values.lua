-- ARGV  prefix, counters...
-- Returns the counters' values, 0 where there is none.
local keys = {}
for i = 2, #ARGV do keys[i - 1] = P .. 'value:' .. ARGV[i] end
return values(keys)
