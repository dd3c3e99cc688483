-- Drop the registered names whose keys are gone.
--
-- KEYS[1]    a shard (sorted set of members, which stand for own names)
-- KEYS[2..]  keys to look at
-- ARGV[1]    now, Unix seconds
-- ARGV[2]    names that were registered later than this stay, Unix seconds
-- ARGV[3..]  the shard's member for each of these keys
-- returns    the members whose keys are gone; they have left the shard
-- Names with keys move to the end of the queue of those that wait to be looked at. In a script, so that a
-- name which is written in between stays.

local gone={}
for i=2,#KEYS do
  local member=ARGV[i+1]
  if redis.call('EXISTS',KEYS[i])==0 then
    local seen=redis.call('ZSCORE',KEYS[1],member)
    if seen and tonumber(seen)<=tonumber(ARGV[2]) then
      redis.call('ZREM',KEYS[1],member)
      gone[#gone+1]=member
    end
  else
    redis.call('ZADD',KEYS[1],'XX',ARGV[1],member)
  end
end
return gone
