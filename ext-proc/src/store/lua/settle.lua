-- KEYS  leases, lease, counters...
-- ARGV  lease prefix, id, unused, then (amount, ttl in ms) per counter
-- Returns 1, or 0 when the id holds no lease (settled, expired or never known).
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[2])
if not deadline then return 0 end
redis.call('ZREM', KEYS[1], ARGV[2])
take_back(KEYS[2])
if tonumber(deadline) <= now then return 0 end
for i = 3, #KEYS do
  add(KEYS[i], ARGV[2 * i - 2], tonumber(ARGV[2 * i - 1]))
end
return 1
