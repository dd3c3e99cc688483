-- Gives a place back (a semaphore's, or a reader's), and wakes a waiter. Repeating it answers the same.
-- KEYS[1]  holders (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- KEYS[2]  wake (list)
-- ARGV[1]  token
-- ARGV[2]  wake if no more than so many are left
-- returns  1 if the place was the token's, 0 if it was not
-- WAKE     for how long an item waits in the wake list, ms
-- RELEASES releases that are remembered
local WAKE = 5000
local RELEASES = 64
local mine = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
if type(mine) ~= 'string' then
  return 0
end
mine = tonumber(mine)
if mine < 0 then
  return 1
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', -now), ARGV[1])
local released = redis.call('ZCOUNT', KEYS[1], '-inf', '(0')
if released > RELEASES then
  redis.call('ZREMRANGEBYRANK', KEYS[1], RELEASES, released - 1)
end
if redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), '+inf') <= tonumber(ARGV[2]) then
  redis.call('UNLINK', KEYS[2])
  redis.call('LPUSH', KEYS[2], 1)
  redis.call('PEXPIRE', KEYS[2], WAKE)
end
return mine > now and 1 or 0
