-- ARGV  prefix, epoch
-- Returns (deployment, deadline, reason) per breaker that is not closed. One that nobody probes is forgotten an
-- hour after its deadline.
local answer = {}
local entries = redis.call('HGETALL', P .. 'circuits')
for i = 1, #entries, 2 do
  local deadline, reason = string.match(entries[i + 1], '^(%d+) (.*)$')
  if tonumber(deadline) + 3600000 > now then
    answer[#answer + 1] = {entries[i], deadline, reason}
  else
    redis.call('HDEL', P .. 'circuits', entries[i])
  end
end
return answer
