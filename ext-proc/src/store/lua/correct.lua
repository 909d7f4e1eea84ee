-- ARGV  prefix, epoch, who corrects, (counter, '+' or '-', amount)...
-- Returns 1, or 0 if it is another's turn. A counter that is gone begins with what the ledger says anyway.
if redis.call('GET', P .. 'auditor') ~= take() then return 0 end
while at < #ARGV do
  local counter, sign, amount = P .. 'value:' .. take(), take(), take()
  if redis.call('EXISTS', counter) == 1 then
    if sign == '+' then redis.call('INCRBY', counter, amount) else subtract(counter, amount) end
  end
end
return 1
