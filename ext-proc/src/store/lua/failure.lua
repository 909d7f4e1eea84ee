-- KEYS  failures of the deployment (list of Unix milliseconds), cooling (sorted set: deployment by deadline)
-- ARGV  deployment, allowed failures + 1, cooldown in ms, retry-after in ms or ''
-- Returns the deadline in force when this failure cools the deployment down, else nil.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit, cooldown = tonumber(ARGV[2]), tonumber(ARGV[3])

redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], -limit, -1)
redis.call('PEXPIRE', KEYS[1], math.max(cooldown, 1))

local deadline = 0
local first = redis.call('LINDEX', KEYS[1], -limit)
if first and now - tonumber(first) < cooldown then deadline = now + cooldown end
if ARGV[4] ~= '' then deadline = math.max(deadline, now + tonumber(ARGV[4])) end
if deadline <= now then return nil end

local standing = redis.call('ZSCORE', KEYS[2], ARGV[1])
if standing and tonumber(standing) > deadline then return tonumber(standing) end
redis.call('ZADD', KEYS[2], deadline, ARGV[1])
local ttl = deadline - now + 60000
if redis.call('PTTL', KEYS[2]) < ttl then redis.call('PEXPIRE', KEYS[2], ttl) end
return deadline
