-- ARGV  prefix, '', id of the replica, name of a new epoch, ms after which a silent replica is gone
-- Makes an epoch where there is none: everything that replicas knew is gone then, unless leases are here all the same.
-- Returns {epoch, its age in ms, 1 if the data was here before it, ms for which somebody goes on restoring,
--          count of live replicas, how many of them come before this one}
local EPOCH, REPLICAS, DAY = P .. 'epoch', P .. 'replicas', 86400000
local replica, name, patience = take(), take(), number()
local epoch = redis.call('GET', EPOCH)
if not epoch then
  local kept = redis.call('EXISTS', LEASES) == 1 and 'kept' or 'lost'
  epoch = name .. '.' .. integer(now) .. '.' .. kept
  redis.call('SET', EPOCH, epoch)
end
redis.call('PEXPIRE', EPOCH, DAY)
redis.call('HSET', REPLICAS, replica, integer(now))
redis.call('PEXPIRE', REPLICAS, integer(patience))
local count, before = 0, 0
local seen = redis.call('HGETALL', REPLICAS)
for i = 1, #seen, 2 do
  if tonumber(seen[i + 1]) + patience < now then
    redis.call('HDEL', REPLICAS, seen[i])
  else
    count = count + 1
    if seen[i] < replica then before = before + 1 end
  end
end
local born, kept = string.match(epoch, '%.(%d+)%.(%a+)$')
local restoring = math.max(redis.call('PTTL', P .. 'restoring'), 0)
return {epoch, math.max(now - tonumber(born), 0), kept == 'kept' and 1 or 0, restoring, count, before}
