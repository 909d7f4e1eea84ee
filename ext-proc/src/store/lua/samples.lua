-- ARGV  prefix, epoch, samples kept per name, ttl in ms, names at most, (name, microseconds)...
-- One hash, so that one HGETALL reads them all: name -> '{expiry} {microseconds} {microseconds} ...', oldest first.
local SAMPLES = P .. 'samples'
local limit, ttl, names = number(), number(), number()
local expiry = integer(now + ttl)
local room = names - redis.call('HLEN', SAMPLES)
while at < #ARGV do
  local name, micros = take(), take()
  local known = redis.call('HGET', SAMPLES, name)
  if known or room > 0 then
    if not known then room = room - 1 end
    local kept = {}
    local until_ms, rest = string.match(known or '0 ', '^(%d+) ?(.*)$')
    if tonumber(until_ms) > now then
      for value in string.gmatch(rest, '%d+') do kept[#kept + 1] = value end
    end
    kept[#kept + 1] = micros
    local from = math.max(#kept - limit + 1, 1)
    redis.call('HSET', SAMPLES, name, expiry .. ' ' .. table.concat(kept, ' ', from))
  end
end
keep(SAMPLES, ttl)
return room
