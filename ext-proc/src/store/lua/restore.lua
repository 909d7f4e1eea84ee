-- ARGV  prefix, epoch, ms for which the others wait for the next part,
--       count of counters, (counter, value, moment, ttl in ms)...,
--       count of leases, (id, ms left, index of the candidate, probe or '', count, (counter, amount, ttl in ms, how)...,
--       count of counters that were settled already, (counter)...)...,
--       count of ids, (id)...
--       how: a number: charged, and where the counter begins if it is missing; or of what had been charged before the
--       data was lost, 'level': charged again, since nothing but leases is on the counter, 'held': on the counter with
--       its value
-- Brings back what a replica knows: counters (of what several replicas say the newest), leases, and ids of leases that
-- are settled, whoever brings them back. Everything may be told again, and in any order.
local RESTORED, ONCE = P .. 'restored:' .. ARGV[2], 600000
local wait = take()
if wait ~= '0' then redis.call('SET', P .. 'restoring', 1, 'PX', wait) end

for _ = 1, number() do
  local counter, value, moment, ttl = take(), number(), number(), number()
  local known = redis.call('HGET', RESTORED, counter)
  local before, at_moment = 0, -1
  if known then
    before, at_moment = string.match(known, '^(%d+) (%d+)$')
    before, at_moment = tonumber(before), tonumber(at_moment)
  end
  if moment > at_moment or (moment == at_moment and value > before) then
    redis.call('HSET', RESTORED, counter, integer(value) .. ' ' .. integer(moment))
    local key = P .. 'value:' .. counter
    if value >= before then add(key, integer(value - before), ttl) else subtract(key, integer(before - value)) end
  end
end
keep(RESTORED, ONCE)

for _ = 1, number() do
  local id, left, index, probe, count = take(), number(), take(), take(), number()
  local key, longest, levels = P .. 'lease:' .. id, 0, nil
  local known = redis.call('EXISTS', key, P .. 'told:' .. id) > 0
  if not known then
    redis.call('HSET', key, '', index)
    if probe ~= '' then
      redis.call('HSET', key, '?', probe)
      redis.call('SET', P .. 'probe:' .. probe, id, 'PX', integer(left), 'NX')
    end
  end
  for _ = 1, count do
    local counter, amount, ttl, how = P .. 'value:' .. take(), take(), number(), take()
    local begin = tonumber(how)
    -- Also of a part that ended, when the rest of its lease is known.
    if begin and begin > 0 then redis.call('SET', counter, how, 'PX', integer(ttl), 'NX') end
    if not known then
      if not begin then
        levels = levels or {}
        if how == 'level' then levels[#levels + 1] = counter end
      end
      if how ~= 'held' then add(counter, amount, ttl) end
      redis.call('HINCRBY', key, counter, amount)
      longest = math.max(longest, ttl)
    end
  end
  for _ = 1, number() do
    local mark = '!' .. P .. 'value:' .. take()
    if not known then redis.call('HSET', key, mark, 1) end
  end
  if not known then
    if levels then redis.call('HSET', key, '~', table.concat(levels, '\n')) end
    redis.call('PEXPIRE', key, integer(left + longest + 60000))
    redis.call('ZADD', LEASES, integer(now + left), id)
    keep(LEASES, left + longest + 60000)
  end
end

for _ = 1, number() do
  local id = take()
  local key = P .. 'lease:' .. id
  local levels = redis.call('HGET', key, '~')
  redis.call('SET', P .. 'told:' .. id, 1, 'PX', ONCE)
  if levels then
    for counter in string.gmatch(levels, '[^\n]+') do
      subtract(counter, redis.call('HGET', key, counter) or 0)
    end
    redis.call('DEL', key)
    redis.call('ZREM', LEASES, id)
  end
end
return 1
