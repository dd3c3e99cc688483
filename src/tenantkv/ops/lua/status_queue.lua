-- Tells of a queue without changing anything of it: not even what is due is moved.
-- KEYS[1]  meta (hash)   the first eight of a queue's keys; queue_common.lua says what they hold
-- KEYS[2]  state (hash)
-- KEYS[3]  bodies (hash)
-- KEYS[4]  ready (sorted set)
-- KEYS[5]  flight (sorted set)
-- KEYS[6]  delayed (sorted set)
-- KEYS[7]  dead (sorted set)
-- KEYS[8]  groups (sorted set)
-- no ARGV
-- returns  {ready, in flight, delayed, dead, in groups, paused (1 or 0), age of the oldest ready one (ms, or -1),
--          sent, acknowledged, messages that were lost (each a number), overdue: deliveries past their time};
--          nil if there is no such queue
-- EPOCH, TOKENS, CLASS  as in queue_common.lua, and to be changed with it
local EPOCH, TOKENS, CLASS = 1735689600000, 8192, 562949953421312
local function size(command, key)
  local count = redis.pcall(command, key)
  return type(count) == 'number' and count or 0
end
local meta = redis.pcall('HMGET', KEYS[1], 'p', 'sent', 'acknowledged', 'lost:b')
if meta.err then meta = {false, false, false, false} end
local counts = {}
for at = 4, 8 do counts[at - 3] = size('ZCARD', KEYS[at]) end
if redis.call('EXISTS', KEYS[1]) == 0 and size('HLEN', KEYS[3]) == 0 then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = -1
for priority = 0, counts[1] > 0 and 9 or -1 do
  for half = 0, 1 do
    local class = priority * CLASS + half * CLASS / 2
    local head = redis.call('ZRANGEBYSCORE', KEYS[4], class, class + CLASS / 2 - 1, 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if head then
      oldest = math.max(oldest, now - math.floor(math.fmod(tonumber(head), CLASS / 2) / 256) - EPOCH)
    end
  end
end
local overdue = counts[2] > 0 and redis.call('ZCOUNT', KEYS[5], '-inf', (now - EPOCH) * TOKENS) or 0
local function number(text) return tonumber(text or 0) or 0 end
return {counts[1], counts[2], counts[3], counts[4], counts[5], meta[1] and meta[1] ~= '' and 1 or 0,
  string.format('%.0f', oldest), number(meta[2]), number(meta[3]), number(meta[4]), overdue}
