-- Takes a place in a semaphore, or says how long it may take. Repeating it answers the same.
-- KEYS[1]  holders (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- KEYS[2]  wake (list)
-- ARGV[1]  token
-- ARGV[2]  lease, ms
-- ARGV[3]  + if the caller has waited before; else empty
-- ARGV[4]  places
-- returns  0 (string), or in what time a lease ends at the latest (integer, ms)
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
-- WAKE     for how long an item waits in the wake list, ms
local LONGEST = 2592000000
local WAKE = 5000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
if type(mine) == 'table' then
  redis.call('UNLINK', KEYS[1])
  mine = false
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, string.format('%.0f', now))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + LONGEST), '+inf')
local taken = redis.call('ZCOUNT', KEYS[1], '(0', '+inf')
if not (mine and tonumber(mine) > now) then
  if taken >= tonumber(ARGV[4]) then
    redis.call('UNLINK', KEYS[2])
    local next = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return math.max(next[2] - now, 1)
  end
  taken = taken + 1
end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if ARGV[3] == '+' and taken < tonumber(ARGV[4]) then
  -- Two places may have become free, and one waiter been woken.
  redis.call('UNLINK', KEYS[2])
  redis.call('LPUSH', KEYS[2], 1)
  redis.call('PEXPIRE', KEYS[2], WAKE)
end
return '0'
