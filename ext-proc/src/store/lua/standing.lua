-- ARGV  prefix, epoch, who asks, ms of its turn, leases at most, counters...
-- Returns {0} if it is another's turn, else {1, per counter its value or -1, then what leases hold of it}; what they hold
-- is -1 where there are too many to look at.
local who, turn, most = take(), take(), number()
local auditor = P .. 'auditor'
local current = redis.call('GET', auditor)
if current and current ~= who then return {0} end
redis.call('SET', auditor, who, 'PX', turn)

local keys, answer = {}, {1}
for i = at + 1, #ARGV do keys[#keys + 1] = P .. 'value:' .. ARGV[i] end
local found = values(keys)
for i = 1, #keys do answer[#answer + 1] = found[i] or -1 end
if redis.call('ZCARD', LEASES) > most then
  for _ = 1, #keys do answer[#answer + 1] = -1 end
  return answer
end
local held = {}
for i = 1, #keys do held[i] = 0 end
for _, id in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
  local amounts = redis.call('HMGET', P .. 'lease:' .. id, unpack(keys))
  for i = 1, #keys do held[i] = held[i] + (tonumber(amounts[i]) or 0) end
end
for i = 1, #keys do answer[#answer + 1] = held[i] end
return answer
