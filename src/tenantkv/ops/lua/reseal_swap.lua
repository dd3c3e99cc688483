-- Puts envelopes into the places of others with the same values, where these still stand. TTLs and
-- scores stay. Repeating it answers the same.
-- KEYS[1]  key (the type that was read; another one is left alone)
-- ARGV[1]  type
-- ARGV[2]  and on, three for each: where (field, index of a list, length of a string's envelope, else
--          empty), the envelope that was read (of a string its first HEAD bytes), the new one
-- returns  for each 1 if the new one stands there now, 2 if it did already beside the old one (of a set),
--          0 if there is something else
-- HEAD     a string may be very long; so much of it holds the nonce or the tag, which no two envelopes share
--          that we have made
local HEAD = 64
local kind = ARGV[1]
local done = {}
if redis.call('TYPE', KEYS[1]).ok ~= kind then
  for at = 2, #ARGV, 3 do
    done[#done + 1] = 0
  end
  return done
end

local swap = {}

function swap.string(length, old, new)
  if redis.call('STRLEN', KEYS[1]) ~= tonumber(length) then
    return 0
  end
  local head = redis.call('GETRANGE', KEYS[1], 0, HEAD - 1)
  if head == old then
    redis.call('SET', KEYS[1], new, 'KEEPTTL')
  end
  return (head == old or head == string.sub(new, 1, HEAD)) and 1 or 0
end

-- Redis before 7.4 and Valkey before 9 know no TTLs of fields.
local fields_expire = true

function swap.hash(field, old, new)
  local value = redis.call('HGET', KEYS[1], field)
  if value == old then
    local until_ms
    if fields_expire then
      local reply = redis.pcall('HPEXPIRETIME', KEYS[1], 'FIELDS', 1, field)
      fields_expire = not reply.err
      until_ms = reply[1]
    end
    redis.call('HSET', KEYS[1], field, new)
    if until_ms and until_ms > 0 then
      redis.call('HPEXPIREAT', KEYS[1], string.format('%.0f', until_ms), 'FIELDS', 1, field)
    end
  end
  return (value == old or value == new) and 1 or 0
end

function swap.list(index, old, new)
  local value = redis.call('LINDEX', KEYS[1], index)
  if value == old then
    redis.call('LSET', KEYS[1], index, new)
  end
  return (value == old or value == new) and 1 or 0
end

-- The new one comes before the old one goes, since a set without members loses its TTL.
function swap.set(_, old, new)
  if redis.call('SISMEMBER', KEYS[1], old) == 0 then
    return redis.call('SISMEMBER', KEYS[1], new)
  end
  local added = redis.call('SADD', KEYS[1], new)
  redis.call('SREM', KEYS[1], old)
  return added == 1 and 1 or 2
end

function swap.zset(_, old, new)
  local score = redis.call('ZSCORE', KEYS[1], old)
  if not score then
    return redis.call('ZSCORE', KEYS[1], new) and 1 or 0
  end
  local added = redis.call('ZADD', KEYS[1], 'NX', score, new)
  redis.call('ZREM', KEYS[1], old)
  return added == 1 and 1 or 2
end

for at = 2, #ARGV, 3 do
  done[#done + 1] = swap[kind](ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
return done
