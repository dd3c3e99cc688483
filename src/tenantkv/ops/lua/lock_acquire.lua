-- Takes a lock that is free, or says how long it may take. Repeating it answers the same.
-- It goes on in lock_fence.lua, where the lock was taken.
-- KEYS[1]  lock (string: the token, then + once somebody waits; with a TTL)
-- KEYS[2]  fence (string: the last fencing number)
-- KEYS[3]  wake (list: one item when a waiter should look)
-- KEYS[4]  in fair order: queue (sorted set: token by ticket, microseconds)
-- KEYS[5]  in fair order: alive (sorted set: token by the time it is given up, milliseconds)
-- ARGV[1]  token
-- ARGV[2]  lease, ms
-- ARGV[3]  + if the caller has waited before, so that others may be waiting too; else empty
-- ARGV[4]  in fair order: within what time the caller asks again, ms; 0 if it does not
-- returns  the fencing number (string), or for how long the lock is held at the most (integer, ms);
--          0 if it is free and another waiter's turn
-- LONGEST  the longest lease there is, ms: what has more, or no TTL, is not ours (ops/lock_places.py)
-- AHEAD    how far a fencing number may be ahead of the clock, microseconds: what is more is not ours
-- WAKE     for how long an item waits in the wake list, ms
-- WAITERS  in fair order: waiters at the most
local LONGEST, AHEAD, WAKE, WAITERS = 2592000000, 3600000000, 5000, 1024
local time = redis.call('TIME')
local fair, waited = #KEYS > 3, ARGV[3]
local taken = not fair and redis.call('SET', KEYS[1], ARGV[1] .. waited, 'NX', 'PX', ARGV[2])

if not taken then
  local now = time[1] * 1000000 + time[2]
  local value, left = redis.pcall('GETRANGE', KEYS[1], 0, 63), -1
  if value == ARGV[1] or value == ARGV[1] .. '+' then
    -- Granted before, and the reply was lost.
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    local known = redis.pcall('GETRANGE', KEYS[2], 0, 31)
    if type(known) == 'string' and string.find(known, '^%d+$') and tonumber(known) <= now + AHEAD then
      return known
    end
    taken = true
  elseif value ~= '' then
    left = type(value) == 'string' and redis.call('PTTL', KEYS[1]) or -1
    if left < 0 or left > LONGEST then
      redis.call('UNLINK', KEYS[1])
      left = -1
    end
  end
  if left >= 0 then
    -- What lies in the wake list was meant for whoever has the lock now.
    redis.call('UNLINK', KEYS[3])
    if string.sub(value, -1) ~= '+' and #value < 64 then
      redis.call('APPEND', KEYS[1], '+')
    end
    left = math.max(left, 1)
  end

  if fair and not taken then
    local size, living = redis.pcall('ZCARD', KEYS[4]), redis.pcall('ZCARD', KEYS[5])
    if type(size) == 'table' or type(living) == 'table' or math.max(size, living) > WAITERS then
      redis.call('UNLINK', KEYS[4], KEYS[5])
    end
    local milliseconds = math.floor(now / 1000)
    if ARGV[4] ~= '0' then
      redis.call('ZADD', KEYS[4], 'NX', string.format('%.0f', now), ARGV[1])
      redis.call('ZADD', KEYS[5], string.format('%.0f', milliseconds + ARGV[4]), ARGV[1])
      redis.call('PEXPIRE', KEYS[4], 60000)
      redis.call('PEXPIRE', KEYS[5], 60000)
    end
    -- Those in front who were not heard of in time are gone; a few at once, the rest next time.
    for _ = 1, left >= 0 and 0 or 32 do
      local first = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
      if not first or first == ARGV[1] then
        break
      end
      local deadline = tonumber(redis.call('ZSCORE', KEYS[5], first) or 0)
      if deadline > milliseconds and deadline <= milliseconds + 60000 then
        if waited == '+' then
          -- The caller may have been woken in that one's place.
          redis.call('UNLINK', KEYS[3])
          redis.call('LPUSH', KEYS[3], 1)
          redis.call('PEXPIRE', KEYS[3], WAKE)
        end
        return 0
      end
      redis.call('ZREM', KEYS[4], first)
      redis.call('ZREM', KEYS[5], first)
    end
    if left < 0 then
      redis.call('ZREM', KEYS[4], ARGV[1])
      redis.call('ZREM', KEYS[5], ARGV[1])
      if redis.call('ZCARD', KEYS[4]) > 0 then
        waited = '+'
      end
    end
  end
  if left >= 0 then
    return left
  end
  if not taken then
    redis.call('SET', KEYS[1], ARGV[1] .. waited, 'PX', ARGV[2])
  end
end
