-- Put a message into a queue and ring for one worker that waits.
--
-- KEYS[1]   list     the queue's messages of one priority; the newest stands left
-- KEYS[2]   list     the queue's bell: one item for each worker that is to be woken
-- KEYS[3]   hash     the ledger: how many messages each queue should hold
-- KEYS[4-]  list     all lists of a queue that expires when nobody uses it
--
-- ARGV[1]   the message, sealed
-- ARGV[2]   the queue's field in the ledger; empty for queues that may vanish
-- ARGV[3]   the most messages that the list may hold; 0 for any number
-- ARGV[4]   ms until an unused queue expires; 0 for never
--
-- Returns how many messages the list holds now, or -1 if it was full.

local held = redis.call('LLEN', KEYS[1])
local rings = redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
local bound = tonumber(ARGV[3])
if bound > 0 and held >= bound then
  return -1
end
redis.call('LPUSH', KEYS[1], ARGV[1])
if rings < 32 then
  redis.call('LPUSH', KEYS[2], '1')
end
if ARGV[2] ~= '' then
  redis.call('HINCRBY', KEYS[3], ARGV[2], 1)
end
if ARGV[4] ~= '0' then
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  for at = 4, #KEYS do
    redis.call('PEXPIRE', KEYS[at], ARGV[4])
  end
end
return held + 1
