-- Counts who holds a place (a semaphore's, or readers), and looks for one of them.
-- KEYS[1]  holders (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- ARGV[1]  token
-- returns  {how many hold it, for how long the token does (ms; 0 if it does not)}
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
local LONGEST = 2592000000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
if type(mine) == 'table' then
  return {0, 0}
end
local most = string.format('%.0f', now + LONGEST)
local holders = redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), most)
return {holders, mine and math.max(mine - now, 0) or 0}
