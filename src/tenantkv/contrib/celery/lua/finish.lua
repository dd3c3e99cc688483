-- End a claim: the message is done with, or goes back into its queue. Repeatable.
--
-- KEYS[1]   hash   unacked: claim -> own name of the list, and the message
-- KEYS[2]   zset   unacked index: claim, scored by seconds since 1970
-- KEYS[3]   hash   marks of taken messages: id -> claim, or "-" when it is done with
-- KEYS[4]   hash   the marks before those
-- KEYS[5]   hash   the ledger; only to give a message back, as the rest
-- KEYS[6]   list   the queue's list
-- KEYS[7]   list   the queue's bell
--
-- ARGV[1]   the claim
-- ARGV[2]   the message's id
-- ARGV[3]   the row as it was read; only to give back, as the rest
-- ARGV[4]   the message, sealed anew; empty to drop the claim
-- ARGV[5]   "L" to stand last in the queue, "R" to be next
-- ARGV[6]   the queue's field in the ledger, or empty
--
-- Returns 1 if the claim was there, 0 if not, -1 if its message was done with already.

if #ARGV == 2 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  local held = redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('HSET', KEYS[3], ARGV[2], '-')
  return held
end
if KEYS[6] then
  redis.call('LLEN', KEYS[6])
  redis.call('LLEN', KEYS[7])
  redis.call('HLEN', KEYS[5])
end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then
  if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
    redis.call('ZREM', KEYS[2], ARGV[1])
  end
  return 0
end
local mark = redis.call('HGET', KEYS[3], ARGV[2]) or redis.call('HGET', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
if mark and mark ~= ARGV[1] then
  return -1
end
redis.call('HSET', KEYS[3], ARGV[2], '-')
if ARGV[4] == '' then
  return 1
end
if ARGV[5] == 'R' then
  redis.call('RPUSH', KEYS[6], ARGV[4])
else
  redis.call('LPUSH', KEYS[6], ARGV[4])
end
if redis.call('LLEN', KEYS[7]) < 32 then
  redis.call('LPUSH', KEYS[7], '1')
end
if ARGV[6] ~= '' then
  redis.call('HINCRBY', KEYS[5], ARGV[6], 1)
end
return 1
