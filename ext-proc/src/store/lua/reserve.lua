-- KEYS  leases, lease, counters...
-- ARGV  lease prefix, id, lease in ms, then (amount, ttl in ms) per counter
-- Returns 1, or 0 when the id holds a lease already.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local lease = tonumber(ARGV[3])
local longest = 0
redis.call('HSET', KEYS[2], '', 1)
for i = 3, #KEYS do
  local amount, ttl = ARGV[2 * i - 2], tonumber(ARGV[2 * i - 1])
  add(KEYS[i], amount, ttl)
  redis.call('HINCRBY', KEYS[2], KEYS[i], amount)
  longest = math.max(longest, ttl)
end
-- The lease must outlive its deadline, so that a late sweep still finds what to take back.
redis.call('PEXPIRE', KEYS[2], lease + longest + 60000)
redis.call('ZADD', KEYS[1], now + lease, ARGV[2])
keep(KEYS[1], lease + longest + 60000)
return 1
