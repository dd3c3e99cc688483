-- Tells who holds a semaphore, or reads under a read/write lock, without changing anything.
-- KEYS[1]  holders (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- no ARGV
-- returns  {how many hold it, until the last lease ends (ms; 0 if nobody holds it)}
-- LONGEST  the longest lease there is, ms: what has more is not ours (ops/lock_places.py)
local LONGEST = 2592000000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most = string.format('%.0f', now + LONGEST)
local count = redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now), most)
local last = redis.call('ZREVRANGEBYSCORE', KEYS[1], most, string.format('(%.0f', now), 'WITHSCORES', 'LIMIT', 0, 1)[2]
return {count, last and math.max(math.floor(tonumber(last)) - now, 0) or 0}
