-- Put a message into a channel's list, if there is room. Not repeatable.
--
-- KEYS[1]   list   the channel's messages, oldest first
-- KEYS[2]   zset   index of the layer's keys: own name, scored by seconds since 1970 at which it may go
--
-- ARGV[1]   the message, sealed
-- ARGV[2]   the most messages that the list may hold
-- ARGV[3]   ms that the list lives on
-- ARGV[4]   own name of the list
-- ARGV[5]   seconds since 1970
--
-- Returns 1, or 0 if the list was full.

redis.call('ZCARD', KEYS[2])
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[5])
redis.call('ZADD', KEYS[2], tonumber(ARGV[5]) + math.ceil(tonumber(ARGV[3]) / 1000), ARGV[4])
return 1
