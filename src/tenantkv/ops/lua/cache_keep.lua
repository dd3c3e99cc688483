-- Prolongs the life of stamps; never shortens one.
-- KEYS     the stamps (strings; what is absent stays so)
-- ARGV[1]  milliseconds; 0 for ever
-- returns  1
local life = tonumber(ARGV[1])
for _, name in ipairs(KEYS) do
  local left = redis.call('PTTL', name)
  if left >= 0 then
    if life == 0 then
      redis.call('PERSIST', name)
    elseif left < life then
      redis.call('PEXPIRE', name, life)
    end
  end
end
return 1
