-- Writes one entry of the directory; a full one loses some other entry.
-- KEYS[1]  the directory (hash; another type is removed)
-- ARGV[1]  field
-- ARGV[2]  sealed entry
-- ARGV[3]  lifetime of the whole, seconds
-- ARGV[4]  entries at the most
-- returns  1
local size = redis.pcall('HLEN', KEYS[1])
if type(size) == 'table' or size > 2 * tonumber(ARGV[4]) then
  -- Another type, or filled by somebody who is not us.
  redis.call('UNLINK', KEYS[1])
elseif size >= tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  local some = redis.pcall('HRANDFIELD', KEYS[1], 2)
  -- Before Redis 6.2: the first that come.
  if some.err then
    local pairs_of = redis.call('HSCAN', KEYS[1], 0, 'COUNT', 2)[2]
    some = {pairs_of[1], pairs_of[3]}
  end
  redis.call('HDEL', KEYS[1], unpack(some))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
