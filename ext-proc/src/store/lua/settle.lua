-- ARGV  prefix, count of settlements, (id, 1 if the id may be unknown here, count, (counter, amount, ttl in ms)...)...
-- Returns per settlement 1, or 0 when the id holds no lease (settled, expired or never known).
local answer = {}
for i = 1, number() do
  local id, unknown = take(), take()
  local deadline = redis.call('ZSCORE', LEASES, id)
  local settled = false
  if deadline then
    redis.call('ZREM', LEASES, id)
    take_back(id)
    settled = tonumber(deadline) > now
  end
  if unknown == '1' then
    -- Admitted without this server (or too late for the caller). Told again after an answer was lost, it is still
    -- counted once.
    settled = redis.call('SET', P .. 'told:' .. id, 1, 'NX', 'PX', 600000) and true or false
  end
  for _ = 1, number() do
    local counter, amount, ttl = take(), take(), number()
    if settled then add(P .. 'value:' .. counter, amount, ttl) end
  end
  answer[i] = settled and 1 or 0
end
return answer
