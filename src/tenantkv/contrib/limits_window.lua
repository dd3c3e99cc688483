-- Count something in a window that begins with its first count. Repeating it answers the same, as long as
-- not too many others came in between; then it counts once more. What is none of ours is begun anew.
--
-- KEYS[1]   hash   window: "n" is the count, "ids" the last calls
--
-- ARGV[1]   how many this is; 0 only looks
-- ARGV[2]   the window, ms; 0 with a look
-- ARGV[3]   id of this call, 8 characters
--
-- Returns {the count, ms until the window ends}.

local amount, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local count, ids, left = nil, '', redis.call('PTTL', KEYS[1])
local size = redis.pcall('HSTRLEN', KEYS[1], 'ids')
if type(size) == 'number' and size <= 128 and redis.call('HSTRLEN', KEYS[1], 'n') <= 20 then
  count = tonumber(redis.call('HGET', KEYS[1], 'n') or nil)
  ids = redis.call('HGET', KEYS[1], 'ids') or ''
end
-- Also not a number (which is not equal to itself), or one that lives on for ever.
if not count or count < 1 or count > 1e15 or count ~= math.floor(count) or left <= 0
    or (amount > 0 and left > window) then
  if left ~= -2 then
    redis.call('UNLINK', KEYS[1])
  end
  count, ids, left = 0, '', 0
end
local known = false
for at = 1, #ids, 8 do
  known = known or string.sub(ids, at, at + 7) == ARGV[3]
end
if amount > 0 and not known then
  count = count + amount
  redis.call('HSET', KEYS[1], 'n', string.format('%.0f', count), 'ids', string.sub(ARGV[3] .. ids, 1, 128))
  if left == 0 then
    left = window
    redis.call('PEXPIRE', KEYS[1], window)
  end
end
return {count, left}
