-- Replaces an entry, if it is still the one that was read or guessed.
-- KEYS[1]  the entry (string; another type counts as absent)
-- KEYS[2]  the lease of whoever computes it (string); it ends
-- KEYS[3]  the cache's stamp (string); or left out, by those who have just read it
-- ARGV[1]  what was read; empty for nothing
-- ARGV[2]  the new entry
-- ARGV[3]  its TTL in milliseconds; 0 for none
-- ARGV[4]  the stamp that has to be there, with KEYS[3]
-- returns  1 if it was replaced, -1 for another stamp, else what is there now, or false
if KEYS[3] and redis.pcall('GET', KEYS[3]) ~= ARGV[4] then
  return -1
end
local now = redis.pcall('GET', KEYS[1])
if type(now) == 'table' then
  now = false
end
if (now or '') ~= ARGV[1] then
  return now
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
redis.call('DEL', KEYS[2])
return 1
