-- Takes a read/write lock for writing, or says how long it may take. Repeating it answers the same.
-- It goes on in lock_fence.lua, where the lock was taken.
-- KEYS[1]  writer (string: the token, then + once somebody waits; with a TTL)
-- KEYS[2]  fence (string: the last fencing number)
-- KEYS[3]  wake (list)
-- KEYS[4]  readers (sorted set: token by the end of its lease, ms; released: minus the time, ms)
-- KEYS[5]  intent (string: the token of a writer that waits, so that no reader comes in between)
-- ARGV[1]  token
-- ARGV[2]  lease, ms
-- ARGV[3]  + if the caller has waited before; else empty
-- ARGV[4]  within what time the caller asks again, ms; 0 if it does not
-- returns  the fencing number (string), or for how long the lock is held at the most (integer, ms)
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
-- AHEAD    how far a fencing number may be ahead of the clock, microseconds: what is more is not ours
local LONGEST, AHEAD = 2592000000, 3600000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local value, mine = redis.pcall('GETRANGE', KEYS[1], 0, 63), false
if value == ARGV[1] or value == ARGV[1] .. '+' then
  -- Granted before, and the reply was lost.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  local known = redis.pcall('GETRANGE', KEYS[2], 0, 31)
  if type(known) == 'string' and string.find(known, '^%d+$') and tonumber(known) <= now + AHEAD then
    return known
  end
  mine = true
elseif value ~= '' then
  local left = type(value) == 'string' and redis.call('PTTL', KEYS[1]) or -1
  if left >= 0 and left <= LONGEST then
    redis.call('UNLINK', KEYS[3])
    if string.sub(value, -1) ~= '+' and #value < 64 then
      redis.call('APPEND', KEYS[1], '+')
    end
    return math.max(left, 1)
  end
  redis.call('UNLINK', KEYS[1])
end

if not mine then
  local milliseconds = math.floor(now / 1000)
  local first = string.format('(%.0f', milliseconds)
  local most = string.format('%.0f', milliseconds + LONGEST)
  local readers = redis.pcall('ZCOUNT', KEYS[4], first, most)
  if type(readers) == 'table' then
    redis.call('UNLINK', KEYS[4])
  elseif readers > 0 then
    local last = redis.call('ZREVRANGEBYSCORE', KEYS[4], most, first, 'WITHSCORES', 'LIMIT', 0, 1)
    redis.call('UNLINK', KEYS[3])
    if ARGV[4] ~= '0' then
      redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[4])
    end
    return math.max(last[2] - milliseconds, 1)
  end
  -- Readers that were held off by the intent are waiting too.
  local waited = redis.call('UNLINK', KEYS[5]) == 1 and '+' or ARGV[3]
  redis.call('SET', KEYS[1], ARGV[1] .. waited, 'PX', ARGV[2])
end
