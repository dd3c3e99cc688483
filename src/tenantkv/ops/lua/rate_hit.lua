-- Counts something in a sliding window, if there is room. Repeating it answers the same, as long as not
-- too many others came in between; then it counts once more.
-- KEYS[1]  window (hash: number of a slice of the time to its count, and "ids")
-- ARGV[1]  how many at the most
-- ARGV[2]  slices of a window
-- ARGV[3]  a slice, ms
-- ARGV[4]  cost: how many this is; 0 only looks
-- ARGV[5]  id of this call, 8 characters
-- returns  {1 if it was counted or there is room for one, room that is left, ms until there is room for
--          the cost (at least 1), ms until all of it is room}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local limit, slices, slice, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local current = math.floor(now / slice)
local size = redis.pcall('HLEN', KEYS[1])
if type(size) == 'table' or size > 2 * slices + 8 then
  redis.call('UNLINK', KEYS[1])
  size = 0
end
local counts, used, ids = {}, 0, ''
if size > 0 then
  local flat = redis.call('HGETALL', KEYS[1])
  local stale = {}
  for at = 1, #flat, 2 do
    local number, count = tonumber(flat[at]), tonumber(flat[at + 1])
    if flat[at] == 'ids' then
      ids = string.sub(flat[at + 1], 1, 128)
    elseif number and count and count > 0 and count <= limit
        and number >= current - slices and number <= current then
      counts[#counts + 1] = {number, count}
      used = used + count
    else
      stale[#stale + 1] = flat[at]
    end
  end
  if #stale > 0 then
    redis.call('HDEL', KEYS[1], unpack(stale))
  end
end
local known = false
for at = 1, #ids, 8 do
  known = known or string.sub(ids, at, at + 7) == ARGV[5]
end
local counted = known or used + cost <= limit and cost > 0
if counted and not known then
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', current), cost)
  redis.call('HSET', KEYS[1], 'ids', string.sub(ARGV[5] .. ids, 1, 128))
  redis.call('PEXPIRE', KEYS[1], (slices + 1) * slice)
  counts[#counts + 1] = {current, cost}
  used = used + cost
end
table.sort(counts, function(a, b) return a[1] < b[1] end)
-- A slice leaves the window as a whole, once its last millisecond has.
local room, whole = 0, 0
local left = limit - used
local wanted = math.max(cost, 1)
for _, each in ipairs(counts) do
  whole = (each[1] + slices + 1) * slice - now
  if left < wanted then
    left = left + each[2]
    room = whole
  end
end
if counted or (cost == 0 and used < limit) then
  return {1, math.max(limit - used, 0), 0, whole}
end
return {0, math.max(limit - used, 0), math.max(room, 1), whole}
