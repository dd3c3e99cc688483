-- Say that claims are alive. Repeatable.
--
-- KEYS[1]   hash   unacked: claim -> own name of the list, and the message
-- KEYS[2]   zset   unacked index: claim, scored by seconds since 1970
--
-- ARGV[1]   seconds since 1970
-- ARGV[2-]  the claims, at most 200
--
-- Returns the positions (from 0) of the claims that are not there.

local lost = {}
for at = 2, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1 then
    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[at])
  else
    lost[#lost + 1] = at - 2
  end
end
return lost
