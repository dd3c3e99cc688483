-- Gives out a fencing number: the end of lock_acquire.lua and of lock_write.lua, once the lock is taken.
-- It has their keys, and time (the server's) and AHEAD (microseconds) from them.
-- KEYS[2]  fence (string: the last fencing number)
-- returns  the fencing number: the time, or one more than the last one if that is not behind (string)
-- FENCE    for how long the fence is kept, ms
-- Numbers stay text where they can: reading and writing them takes as long as a command.
local FENCE = '604800000'
local micros = time[2]
if #micros < 6 then
  micros = string.sub('00000' .. micros, -6)
end
local number = time[1] .. micros
local last = redis.pcall('SET', KEYS[2], number, 'PX', FENCE, 'GET')
if not last or #last == #number and last < number then
  return number
end

if type(last) == 'table' then
  -- Another type, which is not ours; or a server before Redis 6.2, which knows no GET here.
  last = redis.pcall('GETRANGE', KEYS[2], 0, 31)
  redis.call('SET', KEYS[2], number, 'PX', FENCE)
end
if type(last) == 'string' then
  local now = tonumber(number)
  last = tonumber(last)
  if last and last >= now and last <= now + AHEAD then
    number = string.format('%.0f', last + 1)
    redis.call('SET', KEYS[2], number, 'PX', FENCE)
  end
end
return number
