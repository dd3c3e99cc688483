-- Stores what was computed, if the lease for that is still held; the lease ends.
-- KEYS[1]  the entry (string)
-- KEYS[2]  the lease (string; another type is not ours)
-- ARGV[1]  the lease's token
-- ARGV[2]  the new entry; empty to store nothing
-- ARGV[3]  its TTL in milliseconds; 0 for none
-- returns  1 if the lease was held, else 0
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
if ARGV[2] ~= '' then
  if ARGV[3] == '0' then
    redis.call('SET', KEYS[1], ARGV[2])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  end
end
redis.call('DEL', KEYS[2])
return 1
