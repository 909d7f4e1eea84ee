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

-- Charges stay where they are in ARGV, four arguments each from `first` on, and are read by position: a table for each
-- of hundreds would take longer than Redis takes to look them up.
local ARGS = 4

-- Is there room for the charge at this position, with its counter at `value`?
local function room(position, value)
  local limit = tonumber(ARGV[position + 3])
  if not limit then return true end
  local amount = tonumber(ARGV[position + 1])
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

local required, keys = {count = number()}, {}
required.first = name(keys, required.count)
for i, value in ipairs(values(keys)) do
  if not room(required.first + (i - 1) * ARGS, value) then return {REFUSED, i - 1, value} end
end

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
    if not why and c.probe ~= '' and probed(c.probe) then why = -1 end
    if why then
      reasons[#reasons + 1] = why
    else
      local value = pick > 0 and pick <= c.count and found[before + pick] or 0
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
local answer = {ADMITTED, best.index}
redis.call('HSET', key, '', best.index)
for _, charges in ipairs({required, best}) do
  for position = charges.first, charges.first + (charges.count - 1) * ARGS, ARGS do
    local counter, amount, ttl = P .. 'value:' .. ARGV[position], ARGV[position + 1], tonumber(ARGV[position + 2])
    answer[#answer + 1] = add(counter, amount, ttl)
    redis.call('HINCRBY', key, counter, amount)
    longest = math.max(longest, ttl)
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
