-- Takes a read/write lock for reading, or says how long it may take. Repeating it answers the same.
-- KEYS[1]  writer (string: the token, then + once somebody waits; with a TTL)
-- KEYS[2]  fence (string: the last writer's fencing number)
-- KEYS[3]  wake (list)
-- KEYS[4]  readers (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- KEYS[5]  intent (string: the token of a writer that waits)
-- ARGV[1]  token
-- ARGV[2]  lease, ms
-- ARGV[3]  + if the caller has waited before; else empty
-- returns  the last writer's fencing number (string, 0 if unknown), or for how long a writer is in the way
--          at the most (integer, ms)
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
-- AHEAD    how far a fencing number may be ahead of the clock, microseconds: what is more is not ours
-- INTENT   the longest life of an intent, ms: what has more, or no TTL, is not ours
-- WAKE     for how long an item waits in the wake list, ms
local LONGEST, AHEAD, INTENT, WAKE = 2592000000, 3600000000, 4000, 5000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local milliseconds = math.floor(now / 1000)
local value = redis.pcall('GETRANGE', KEYS[1], 0, 63)
if value ~= '' then
  local left = -1
  if type(value) == 'string' then
    left = redis.call('PTTL', KEYS[1])
  end
  if left >= 0 and left <= LONGEST then
    redis.call('UNLINK', KEYS[3])
    if string.sub(value, -1) ~= '+' and #value < 64 then
      redis.call('APPEND', KEYS[1], '+')
    end
    return math.max(left, 1)
  end
  redis.call('UNLINK', KEYS[1])
end

local mine = redis.pcall('ZSCORE', KEYS[4], ARGV[1])
if type(mine) == 'table' then
  redis.call('UNLINK', KEYS[4])
  mine = false
end
if not mine or tonumber(mine) <= milliseconds then
  local intent = redis.call('PTTL', KEYS[5])
  if intent >= 0 and intent <= INTENT then
    return math.max(intent, 1)
  elseif intent ~= -2 then
    redis.call('UNLINK', KEYS[5])
  end
end

-- Leases that have run out, and what no lease can be.
redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, string.format('%.0f', milliseconds))
redis.call('ZREMRANGEBYSCORE', KEYS[4], string.format('(%.0f', milliseconds + LONGEST), '+inf')
redis.call('ZADD', KEYS[4], string.format('%.0f', milliseconds + ARGV[2]), ARGV[1])
if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
end
if ARGV[3] == '+' then
  -- One reader wakes the next.
  redis.call('UNLINK', KEYS[3])
  redis.call('LPUSH', KEYS[3], 1)
  redis.call('PEXPIRE', KEYS[3], WAKE)
end
local fence = redis.pcall('GETRANGE', KEYS[2], 0, 31)
local number = type(fence) == 'string' and string.match(fence, '^%d+$')
if number and tonumber(number) <= now + AHEAD then
  return number
end
return '0'
