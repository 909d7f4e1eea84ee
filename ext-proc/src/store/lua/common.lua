-- Shared head of every script that touches leases.
-- KEYS[1]  sorted set: lease id by deadline (Unix milliseconds)
-- ARGV[1]  prefix of lease keys; a lease is a hash counter -> amount, with an empty field as its marker
-- All keys carry one hash tag, so the keys that the sweep finds live in the slot of those that were declared.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

local function add(counter, amount, ttl)
  redis.call('INCRBY', counter, amount)
  keep(counter, ttl)
end

local function take_back(lease)
  local entries = redis.call('HGETALL', lease)
  for i = 1, #entries, 2 do
    local counter = entries[i]
    -- A counter that expired is not brought back: it would have no TTL.
    if counter ~= '' and redis.call('EXISTS', counter) == 1 then
      local left = redis.call('DECRBY', counter, entries[i + 1])
      if left < 0 then redis.call('INCRBY', counter, string.format('%.0f', -left)) end
    end
  end
  redis.call('DEL', lease)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 64)) do
  take_back(ARGV[1] .. id)
  redis.call('ZREM', KEYS[1], id)
end
