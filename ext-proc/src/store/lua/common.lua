-- Shared head of every script.
-- KEYS[1]  sorted set: lease id by deadline (Unix milliseconds). The only declared key: the others are named by
--          ARGV[1], the prefix with the hash tag, hence in the same slot.
-- ARGV[2]  the epoch that the caller knows, '' to ask no questions. A server that lost its data has another one, or none.
-- A lease is a hash: '' -> index of the candidate, '?' -> deployment that it probes, counter -> amount that is held,
-- '!' and counter -> settled already while the lease stays, '~' -> counters that were charged again when the lease was
-- brought back to a server without data.
local LEASES, P = KEYS[1], ARGV[1]
if ARGV[2] ~= '' and redis.call('GET', P .. 'epoch') ~= ARGV[2] then
  return redis.error_reply('EPOCH the data is another or gone')
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Orders what replicas are told of one counter: answers overtake each other on their way.
local moment = time[1] * 1000000 + time[2]
local at = 2

-- The next argument.
local function take()
  at = at + 1
  return ARGV[at]
end

local function number() return tonumber(take()) end

-- Integers beyond 2^31 would print as 1e+12.
local function integer(n) return string.format('%.0f', n) end

-- Lets a key live for `ttl` from now. Less than a tenth of it too early (five seconds at most, every user has a minute to
-- spare) is good enough: else each use of a counter would write its expiry anew.
local function keep(key, ttl)
  local left = redis.call('PTTL', key)
  if left < 0 or left < ttl - math.min(ttl / 10, 5000) then redis.call('PEXPIRE', key, integer(ttl)) end
end

local function add(counter, amount, ttl)
  local value = redis.call('INCRBY', counter, amount)
  keep(counter, ttl)
  return value
end

-- Values of keys, nil where there is none. Lua's stack limits how many one call may name.
local function values(keys)
  local found = {}
  for from = 1, #keys, 1000 do
    local chunk = redis.call('MGET', unpack(keys, from, math.min(from + 999, #keys)))
    for i = 1, #chunk do found[from + i - 1] = tonumber(chunk[i]) end
  end
  return found
end

-- A counter that expired is not brought back: it would have no TTL.
local function subtract(counter, amount)
  if redis.call('EXISTS', counter) == 0 then return end
  local left = redis.call('DECRBY', counter, amount)
  if left < 0 then redis.call('INCRBY', counter, integer(-left)) end
end

-- Is this field of a lease a counter?
local function is_counter(field)
  local first = string.byte(field)
  return first and first ~= 33 and first ~= 63 and first ~= 126
end

local function take_back(id)
  local lease = P .. 'lease:' .. id
  local entries = redis.call('HGETALL', lease)
  for i = 1, #entries, 2 do
    local field, amount = entries[i], entries[i + 1]
    if field == '?' then
      local probe = P .. 'probe:' .. amount
      if redis.call('GET', probe) == id then redis.call('DEL', probe) end
    elseif is_counter(field) then
      subtract(field, amount)
    end
  end
  redis.call('DEL', lease)
end

-- Bounded: an idle hour is not paid for by one request.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 64)) do
  take_back(id)
  redis.call('ZREM', LEASES, id)
end
