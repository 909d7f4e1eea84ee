-- ARGV  prefix, epoch, count of settlements, (id, 1 if the id may be unknown here, 1 if the lease stays, count,
--       (counter, amount, ttl in ms)...)...
-- Returns {moment, per settlement 1, or 0 when the id holds no lease (settled, expired or never known), then the values
-- of all counters that were named, -1 where nothing was counted}.
local ONCE = 600000
local answer, read = {moment}, {}

-- Whether the lease runs. One that is over is taken back.
local function alive(id)
  local deadline = redis.call('ZSCORE', LEASES, id)
  if not deadline then return false end
  if tonumber(deadline) > now then return true end
  redis.call('ZREM', LEASES, id)
  take_back(id)
  return false
end

-- Of what was admitted without this server (or too late for the caller): told again after an answer was lost, it is
-- still counted once.
local function first_time(what)
  return redis.call('SET', P .. 'told:' .. what, 1, 'NX', 'PX', ONCE) and true or false
end

-- One counter is settled while its lease stays. A counter is settled once in the life of a lease.
local function settle_part(id, runs, counter)
  if not runs then return first_time(id .. '!' .. counter) end
  local lease = P .. 'lease:' .. id
  if redis.call('HSETNX', lease, '!' .. counter, 1) == 0 then return false end
  local amount = redis.call('HGET', lease, counter)
  if amount then
    subtract(counter, amount)
    redis.call('HDEL', lease, counter)
  end
  return true
end

for i = 1, number() do
  local id, unknown, stays = take(), take() == '1', take() == '1'
  local runs = alive(id)
  local settled = runs
  if stays then
    settled = runs or unknown
  else
    if runs then
      redis.call('ZREM', LEASES, id)
      -- Nobody brings it back again.
      if not unknown and redis.call('HEXISTS', P .. 'lease:' .. id, '~') == 1 then first_time(id) end
      take_back(id)
    end
    if unknown then settled = first_time(id) end
  end
  for _ = 1, number() do
    local counter, amount, ttl = P .. 'value:' .. take(), take(), number()
    local value = -1
    if settled and (not stays or settle_part(id, runs, counter)) then value = add(counter, amount, ttl) end
    read[#read + 1] = value
  end
  answer[i + 1] = settled and 1 or 0
end
for i = 1, #read do answer[#answer + 1] = read[i] end
return answer
