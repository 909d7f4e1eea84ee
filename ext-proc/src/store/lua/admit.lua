-- ARGV  prefix, id, lease in ms, pick (0: first, else 1 + index of the charge whose counter is to be lowest),
--       count of required limits, (limited)..., count of candidates, (tier, probe or '', count, (limited)...)...
--       limited: counter, amount, ttl in ms, limit or ''
-- Returns {0, index}: the id holds a lease already
--      or {1, index, values of the charged counters, required ones first}
--      or {2, index, value}: refused by a required limit
--      or {3, (index of the charge without room, -1: probe)...}: full
local HELD, ADMITTED, REFUSED, FULL = 0, 1, 2, 3
local id, lease, pick = take(), number(), number()

local held = redis.call('HGET', P .. 'lease:' .. id, '')
if held then
  local deadline = redis.call('ZSCORE', LEASES, id)
  if deadline and tonumber(deadline) > now then return {HELD, tonumber(held)} end
  -- Over, though the bounded sweep did not come to it.
  take_back(id)
  redis.call('ZREM', LEASES, id)
end

local function limited()
  return {key = P .. 'value:' .. take(), amount = take(), ttl = number(), limit = tonumber(take())}
end

local function room(charge, value)
  if not charge.limit then return true end
  local amount = tonumber(charge.amount)
  if charge.limit == 0 then return amount == 0 end
  return value + math.min(amount, charge.limit) <= charge.limit
end

local function read(charges)
  local keys = {}
  for i, charge in ipairs(charges) do keys[i] = charge.key end
  for i, value in ipairs(values(keys)) do charges[i].value = value end
end

local function probed(deployment)
  if redis.call('EXISTS', P .. 'probe:' .. deployment) == 1 then return true end
  -- Who asks may not have heard yet that the last probe failed.
  local circuit = redis.call('HGET', P .. 'circuits', deployment)
  return circuit and tonumber(string.match(circuit, '^%d+')) > now
end

local required = {}
for i = 1, number() do required[i] = limited() end
read(required)
for i, charge in ipairs(required) do
  if not room(charge, charge.value) then return {REFUSED, i - 1, charge.value} end
end

local count = number()
local function candidate()
  local found = {tier = number(), probe = take(), charges = {}}
  for i = 1, number() do found.charges[i] = limited() end
  return found
end

-- Index of the first charge without room, -1 for a taken probe, nil if there is room.
local function obstacle(c)
  for i, charge in ipairs(c.charges) do
    if not room(charge, charge.value) then return i - 1 end
  end
  if c.probe ~= '' and probed(c.probe) then return -1 end
end

local best, best_index, best_weight
local reasons = {FULL}

-- Looks at a block of candidates, whose counters are read in one go.
local function look(block, first)
  local all = {}
  for _, c in ipairs(block) do
    for _, charge in ipairs(c.charges) do all[#all + 1] = charge end
  end
  read(all)
  for i, c in ipairs(block) do
    if best and c.tier ~= best.tier then return end
    local why = obstacle(c)
    if why then
      reasons[#reasons + 1] = why
    else
      local weighed = c.charges[pick]
      local weight = weighed and weighed.value or 0
      if not best or weight < best_weight then best, best_index, best_weight = c, first + i - 2, weight end
      if pick == 0 then return end
    end
  end
end

-- The first often has room: blocks grow. To find the lowest, a tier must be seen to its end.
local seen, size = 0, 8
while seen < count and (not best or pick > 0) do
  local block = {}
  while seen < count and #block < size do
    seen = seen + 1
    block[#block + 1] = candidate()
  end
  look(block, seen - #block + 1)
  if best and block[#block].tier ~= best.tier then break end
  size = size * 4
end
if not best then return reasons end

local key, longest = P .. 'lease:' .. id, 0
local answer = {ADMITTED, best_index}
redis.call('HSET', key, '', best_index)
for _, charges in ipairs({required, best.charges}) do
  for _, charge in ipairs(charges) do
    answer[#answer + 1] = add(charge.key, charge.amount, charge.ttl)
    redis.call('HINCRBY', key, charge.key, charge.amount)
    longest = math.max(longest, charge.ttl)
  end
end
if best.probe ~= '' then
  redis.call('HSET', key, '?', best.probe)
  redis.call('SET', P .. 'probe:' .. best.probe, id, 'PX', integer(lease))
end
-- The lease must outlive its deadline, so that a late sweep still finds what to take back.
redis.call('PEXPIRE', key, integer(lease + longest + 60000))
redis.call('ZADD', LEASES, integer(now + lease), id)
keep(LEASES, lease + longest + 60000)
return answer
