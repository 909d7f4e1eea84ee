-- ARGV  prefix, epoch, count of observations, (deployment, successes, count of failures, (failure)...)...
--       failure: reason, cooldown in ms, then one of
--         'never' | 'now' | 'count', kind, allowed, window in ms | 'share', percent, min
--         'enter': open until now + cooldown (which may have passed), nothing is counted
-- Returns (deployment, deadline, reason) per breaker that opened or moved, deadline 0 for one that closed.
-- A circuit is a field of the hash `circuits`: deployment -> '{deadline} {reason}'.
local CIRCUITS = P .. 'circuits'
local FORGET, DAY = 3600000, 86400000

-- Deadline of a breaker that is not closed.
local function standing(deployment)
  local circuit = redis.call('HGET', CIRCUITS, deployment)
  if not circuit then return nil end
  local until_ms = tonumber(string.match(circuit, '^%d+'))
  if until_ms + FORGET > now then return until_ms end
  redis.call('HDEL', CIRCUITS, deployment)
end

-- Outcomes of the current minute, these included.
local function outcomes(deployment, successes, failures)
  local key = P .. 'outcomes:' .. integer(math.floor(now / 60000)) .. ':' .. deployment
  local good = redis.call('HINCRBY', key, 'good', successes)
  local bad = redis.call('HINCRBY', key, 'bad', failures)
  keep(key, 120000)
  return good + bad, bad
end

-- Times of the newest failures of a kind. Have more than are allowed fallen within the window?
local function too_many(deployment, kind, allowed, window)
  local key, kinds = P .. 'failures:' .. deployment .. ':' .. kind, P .. 'kinds:' .. deployment
  redis.call('RPUSH', key, integer(now))
  redis.call('LTRIM', key, -allowed - 1, -1)
  keep(key, math.max(window, 1))
  redis.call('SADD', kinds, kind)
  keep(kinds, math.max(window, 1))
  local first = redis.call('LINDEX', key, -allowed - 1)
  return first and now - tonumber(first) < window
end

-- A breaker that closes starts afresh: what made it open does not open it again.
local function close(deployment)
  redis.call('HDEL', CIRCUITS, deployment)
  local kinds = P .. 'kinds:' .. deployment
  for _, kind in ipairs(redis.call('SMEMBERS', kinds)) do
    redis.call('DEL', P .. 'failures:' .. deployment .. ':' .. kind)
  end
  redis.call('DEL', kinds, P .. 'outcomes:' .. integer(math.floor(now / 60000)) .. ':' .. deployment)
end

local answer = {}
for _ = 1, number() do
  local deployment, successes = take(), take()
  local old = standing(deployment)
  local half_open = old and old <= now
  local failures, failed = {}, 0
  for i = 1, number() do
    local f = {reason = take(), cooldown = math.min(number(), DAY), trip = take()}
    if f.trip == 'count' then
      f.kind, f.allowed, f.window = take(), number(), number()
    elseif f.trip == 'share' then
      f.percent, f.min = number(), number()
    end
    if f.trip ~= 'enter' then failed = failed + 1 end
    failures[i] = f
  end

  local total, bad = 0, 0
  if failed > 0 or tonumber(successes) > 0 then
    redis.call('DEL', P .. 'probe:' .. deployment)
    total, bad = outcomes(deployment, successes, failed)
  end
  local deadline, reason = 0, ''
  for _, f in ipairs(failures) do
    local trips = f.trip == 'now'
    if f.trip == 'count' then trips = too_many(deployment, f.kind, f.allowed, f.window) end
    if f.trip == 'share' then trips = total >= f.min and bad * 100 > f.percent * total end
    trips = (trips or half_open) and f.cooldown > 0 or f.trip == 'enter'
    if trips and now + f.cooldown > deadline then deadline, reason = now + f.cooldown, f.reason end
  end

  if deadline > (old or 0) then
    redis.call('HSET', CIRCUITS, deployment, integer(deadline) .. ' ' .. reason)
    keep(CIRCUITS, math.max(deadline - now, 0) + FORGET)
    answer[#answer + 1] = {deployment, integer(deadline), reason}
  elseif half_open and #failures == 0 and tonumber(successes) > 0 then
    close(deployment)
    answer[#answer + 1] = {deployment, '0', ''}
  end
end
return answer
