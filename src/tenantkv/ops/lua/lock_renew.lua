-- Sets how long a lock is still held. Repeating it answers the same, but with +.
-- KEYS[1]  lock (string: the token, then + once somebody waits)
-- KEYS[2]  fence (string; lives on)
-- ARGV[1]  token
-- ARGV[2]  time, ms
-- ARGV[3]  = for this time, > for this time at least, + for so much longer than it would be
-- returns  for how long the lock is held (integer, ms); 0 if it is not the token's
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
-- FENCE    for how long the fence is kept, ms
local LONGEST, FENCE = 2592000000, 604800000
local value = redis.pcall('GETRANGE', KEYS[1], 0, 63)
if value ~= ARGV[1] and value ~= ARGV[1] .. '+' then
  return 0
end
local time = tonumber(ARGV[2])
if ARGV[3] ~= '=' then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= LONGEST then
    time = ARGV[3] == '+' and left + time or math.max(left, time)
  end
end
time = math.min(time, LONGEST)
redis.call('PEXPIRE', KEYS[1], time)
redis.call('PEXPIRE', KEYS[2], FENCE)
return time
