-- KEYS  leases, counters...
-- Returns the counters' values, nil where there is none.
local values = {}
for i = 2, #KEYS do
  values[i - 1] = redis.call('GET', KEYS[i])
end
return values
