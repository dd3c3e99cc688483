-- Compare how many messages a queue holds with how many it should hold, and set that right. Repeatable,
-- but the second answer finds nothing.
--
-- KEYS[1]   hash   the ledger: how many messages each queue should hold
-- KEYS[2-]  list   the queue's lists, one a priority
--
-- ARGV[1]   the queue's field in the ledger
--
-- Returns how many messages are gone.

local depth = 0
for at = 2, #KEYS do
  depth = depth + redis.call('LLEN', KEYS[at])
end
local due = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or depth)
if due == depth then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], depth)
return due - depth
