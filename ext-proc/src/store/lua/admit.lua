-- ARGV  prefix, epoch, id, lease in ms, pick (0: first, else 1 + index of the charge whose counter is to be lowest),
--       id of the lease to prolong or '', times that the charges must fit, count of further ids, (id)...,
--       count of required limits, (limited)..., count of candidates, (tier, probe or '', count, (limited)...)...
--       further ids: the same is reserved under each, all or nothing. Then charges must fit as a whole, so many times, and
--       nobody is probed.
--       limited: counter, amount, ttl in ms, limit or '', mode
--       mode: '', or 's' if the charge shrinks to what is left, then '?' if who asks knows where a missing counter
--       begins, or the number where it begins
-- Returns {0, index, moment, values}: the id holds a lease already
--      or {1, index, moment, values of the charged counters, required ones first, then the amounts of those that shrink}
--      or {2, index, value, moment}: refused by a required limit
--      or {3, (index of the charge without room, -1: probe)...}: full
--      or {4, (index of the required limit whose counter is missing)...}
local HELD, ADMITTED, REFUSED, FULL, UNSEEDED = 0, 1, 2, 3, 4
local id, lease, pick, renew = take(), number(), number(), take()
local times, ids = number(), {}
for i = 1, number() do ids[i] = take() end
local uses = #ids + 1

local held = redis.call('HGET', P .. 'lease:' .. id, '')
if held then
  local deadline = redis.call('ZSCORE', LEASES, id)
  if not deadline or tonumber(deadline) <= now then
    -- Over, though the bounded sweep did not come to it.
    take_back(id)
    redis.call('ZREM', LEASES, id)
    held = nil
  end
end

-- Charges stay where they are in ARGV, five arguments each from `first` on, and are read by position: a table for each
-- of hundreds would take longer than Redis takes to look them up.
local ARGS = 5

-- Where the counter of the charge at this position begins.
local function begin(position)
  local mode = ARGV[position + 4]
  return mode ~= '' and tonumber(string.match(mode, '%d+')) or 0
end

local function shrinks(mode) return string.byte(mode) == 115 end

-- Is there room for the charge at this position, with its counter at `value`?
local function room(position, value)
  local limit = tonumber(ARGV[position + 3])
  if not limit then return true end
  value = value or begin(position)
  local amount, shrinks = tonumber(ARGV[position + 1]), shrinks(ARGV[position + 4])
  if uses > 1 then
    -- A budget that is used up has no room for what is free either.
    amount = math.max(amount * times, shrinks and 1 or 0)
    return amount <= limit and value + amount <= limit
  end
  if shrinks then return value < limit end
  if limit == 0 then return amount == 0 end
  return value + math.min(amount, limit) <= limit
end

-- Appends the counters of `count` charges to `keys`, and steps over the charges. Returns their position.
local function name(keys, count)
  local first = at + 1
  for i = 0, count - 1 do keys[#keys + 1] = P .. 'value:' .. ARGV[first + i * ARGS] end
  at = at + count * ARGS
  return first
end

local function probed(deployment)
  if redis.call('EXISTS', P .. 'probe:' .. deployment) == 1 then return true end
  -- Who asks may not have heard yet that the last probe failed.
  local circuit = redis.call('HGET', P .. 'circuits', deployment)
  return circuit and tonumber(string.match(circuit, '^%d+')) > now
end

-- The other reservation of the same request goes on as long as this one.
local function prolong(other)
  local deadline = tonumber(redis.call('ZSCORE', LEASES, other) or 0)
  if deadline <= now or deadline >= now + lease then return end
  local key = P .. 'lease:' .. other
  local ttl = redis.call('PTTL', key) + now + lease - deadline
  redis.call('ZADD', LEASES, integer(now + lease), other)
  redis.call('PEXPIRE', key, integer(ttl))
  keep(LEASES, ttl)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    -- Without a window: what is in flight.
    if is_counter(field) and string.sub(field, -2) == ':0' then keep(field, lease + 60000) end
  end
  local deployment = redis.call('HGET', key, '?')
  if deployment and redis.call('GET', P .. 'probe:' .. deployment) == other then
    keep(P .. 'probe:' .. deployment, lease)
  end
end

local required, keys = {count = number()}, {}
required.first = name(keys, required.count)

if held then
  held = tonumber(held)
  if renew ~= '' then prolong(renew) end
  for index = 0, number() - 1 do
    at = at + 2
    local count = number()
    if index == held then
      name(keys, count)
      break
    end
    at = at + count * ARGS
  end
  local answer, found = {HELD, held, moment}, values(keys)
  for i = 1, #keys do answer[i + 3] = found[i] or 0 end
  return answer
end

local found, unseeded = values(keys), {UNSEEDED}
for i = 1, required.count do
  local position, value = required.first + (i - 1) * ARGS, found[i]
  local mode = ARGV[position + 4]
  if not value and mode ~= '' then
    local seed = string.match(mode, '%d+')
    if seed then
      -- Also when it refuses: it is not asked for again.
      redis.call('SET', keys[i], seed, 'PX', ARGV[position + 2])
      value = tonumber(seed)
    elseif string.byte(mode, -1) == 63 then
      unseeded[#unseeded + 1] = i - 1
    end
  end
  if not room(position, value) then return {REFUSED, i - 1, value or 0, moment} end
end
if #unseeded > 1 then return unseeded end

-- The best so far, and its value.
local best, lowest
local reasons = {FULL}

-- Looks at a block of candidates, whose counters are read in one go.
local function look(block, found)
  local before = 0
  for _, c in ipairs(block) do
    if best and c.tier ~= best.tier then return end
    local why
    for i = 1, c.count do
      if not room(c.first + (i - 1) * ARGS, found[before + i]) then
        why = i - 1
        break
      end
    end
    if not why and c.probe ~= '' and (uses > 1 or probed(c.probe)) then why = -1 end
    if why then
      reasons[#reasons + 1] = why
    else
      local value = 0
      if pick > 0 and pick <= c.count then
        value = found[before + pick] or begin(c.first + (pick - 1) * ARGS)
      end
      if not best or value < lowest then best, lowest = c, value end
      if pick == 0 then return end
    end
    before = before + c.count
  end
end

-- The first often has room: blocks grow. To find the lowest, a tier must be seen to its end.
local count, seen, size = number(), 0, 8
while seen < count and (not best or pick > 0) do
  local block = {}
  keys = {}
  while seen < count and #block < size do
    local c = {index = seen, tier = take(), probe = take(), count = number()}
    c.first = name(keys, c.count)
    block[#block + 1] = c
    seen = seen + 1
  end
  look(block, values(keys))
  if best and block[#block].tier ~= best.tier then break end
  size = size * 4
end
if not best then return reasons end

local key, longest = P .. 'lease:' .. id, 0
local answer, shrunk = {ADMITTED, best.index, moment}, {}
-- What a lease holds.
local held_fields = {'', best.index}
redis.call('HSET', key, '', best.index)

local function charge(position)
  local counter, amount, mode = P .. 'value:' .. ARGV[position], ARGV[position + 1], ARGV[position + 4]
  local ttl = tonumber(ARGV[position + 2])
  if mode ~= '' then
    local seed, limit = string.match(mode, '%d+'), tonumber(ARGV[position + 3])
    if seed then redis.call('SET', counter, seed, 'PX', integer(ttl), 'NX') end
    if limit and shrinks(mode) then
      local left = limit - tonumber(redis.call('GET', counter) or 0)
      amount = integer(math.max(math.min(tonumber(amount), left), 0))
      shrunk[#shrunk + 1] = tonumber(amount)
    end
  end
  answer[#answer + 1] = add(counter, uses > 1 and integer(amount * uses) or amount, ttl)
  redis.call('HINCRBY', key, counter, amount)
  held_fields[#held_fields + 1] = counter
  held_fields[#held_fields + 1] = amount
  longest = math.max(longest, ttl)
end

for _, charges in ipairs({required, best}) do
  for position = charges.first, charges.first + (charges.count - 1) * ARGS, ARGS do charge(position) end
end
for i = 1, #shrunk do answer[#answer + 1] = shrunk[i] end
if best.probe ~= '' then
  redis.call('HSET', key, '?', best.probe)
  redis.call('SET', P .. 'probe:' .. best.probe, id, 'PX', integer(lease))
end
-- The lease must outlive its deadline, so that a late sweep still finds what to take back.
redis.call('PEXPIRE', key, integer(lease + longest + 60000))
redis.call('ZADD', LEASES, integer(now + lease), id)
keep(LEASES, lease + longest + 60000)
for _, other in ipairs(ids) do
  local key = P .. 'lease:' .. other
  redis.call('HSET', key, unpack(held_fields))
  redis.call('PEXPIRE', key, integer(lease + longest + 60000))
  redis.call('ZADD', LEASES, integer(now + lease), other)
end
if renew ~= '' then prolong(renew) end
return answer
