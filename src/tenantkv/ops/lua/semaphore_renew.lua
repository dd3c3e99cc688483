-- Sets how long a place (a semaphore's, or a reader's) is still held. Repeating it answers the same,
-- but with +.
-- KEYS[1]  holders (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- ARGV[1]  token
-- ARGV[2]  time, ms
-- ARGV[3]  = for this time, > for this time at least, + for so much longer than it would be
-- returns  for how long the place is held (integer, ms); 0 if it is not the token's
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
local LONGEST = 2592000000
local mine = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
if type(mine) ~= 'string' then
  return 0
end
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local left, time = tonumber(mine) - now, tonumber(ARGV[2])
if left <= 0 then
  return 0
end
if ARGV[3] ~= '=' and left <= LONGEST then
  time = ARGV[3] == '+' and left + time or math.max(left, time)
end
time = math.min(time, LONGEST)
redis.call('ZADD', KEYS[1], string.format('%.0f', now + time), ARGV[1])
if redis.call('PTTL', KEYS[1]) < time then
  redis.call('PEXPIRE', KEYS[1], time)
end
return time
