-- Reads a page of a key: its envelopes that another key of the keyring than the primary has made.
-- KEYS[1]  key (any type; it is not written)
-- ARGV[1]  the primary's id, 4 bytes
-- ARGV[2]  the type that was read before; empty to begin. A key of another type is read from its beginning
-- ARGV[3]  where to go on: 0 to begin, or as it was returned; for a list -1 to begin at its end
-- ARGV[4]  elements at the most, a hint as for HSCAN
-- ARGV[5]  bytes that a page should have at the most
-- ARGV[6]  bytes of the longest envelope that there is; of what is longer only the beginning is returned
-- ARGV[7]  1 if the reply may be as long as it must be, 0 to be told when it is very long
-- returns  type, where to go on (0: it was the last page; alone: ask again, with 1), how many elements
--          the key has, how many were looked at, how many of these the primary has sealed, how many envelopes of a plug-in
--          another key has made, then two for each envelope: where it stands (field, index of a list, else empty), envelope
-- MAGIC    what an envelope begins with, and what a plug-in's has in front of that (envelope_header.py,
--          contrib/celery/messages.py)
-- ALONE    this many pages' bytes are very long
local MAGIC = 193
local MARK = 1
local ALONE = 16
local kind = redis.call('TYPE', KEYS[1]).ok
local cursor = (ARGV[2] == kind or ARGV[2] == '') and ARGV[3] or '0'
local count = tonumber(ARGV[4])
local limit = tonumber(ARGV[5])
local longest = tonumber(ARGV[6])
local onward = '0'
local seen, current, others, bytes = 0, 0, 0, 0
local found = {}

local function look(where, value)
  seen = seen + 1
  local first, second = string.byte(value, 1, 2)
  if first == MAGIC and #value >= 23 then
    if string.sub(value, 4, 7) == ARGV[1] then
      current = current + 1
    else
      if #value > longest then
        value = string.sub(value, 1, 64)
      end
      bytes = bytes + #value
      found[#found + 1] = where
      found[#found + 1] = value
    end
  elseif first == MARK and second == MAGIC and string.sub(value, 5, 8) ~= ARGV[1] then
    others = others + 1
  end
end

local SIZE = {hash = 'HLEN', list = 'LLEN', set = 'SCARD', zset = 'ZCARD', stream = 'XLEN'}
local size = kind == 'string' and 1 or 0
if SIZE[kind] then
  size = redis.call(SIZE[kind], KEYS[1])
  -- Estimated, so that a page of long elements has few of them. Not every server has the command.
  local memory = redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 3)
  if type(memory) == 'number' and memory * count > limit * size then
    count = math.max(1, math.floor(limit * size / memory))
  end
end

if kind == 'string' then
  local head = redis.call('GETRANGE', KEYS[1], 0, 7)
  local first, second = string.byte(head, 1, 2)
  if first == MAGIC and string.sub(head, 4, 7) ~= ARGV[1] then
    local length = redis.call('STRLEN', KEYS[1])
    if length > longest then
      look('', redis.call('GETRANGE', KEYS[1], 0, 63))
    elseif length > limit * ALONE and ARGV[7] == '0' then
      bytes = limit * ALONE + 1
    else
      look('', redis.call('GET', KEYS[1]))
    end
  else
    seen = 1
    if first == MAGIC and redis.call('STRLEN', KEYS[1]) >= 23 then
      current = 1
    elseif first == MARK and second == MAGIC and string.sub(head, 5, 8) ~= ARGV[1] then
      others = 1
    end
  end
elseif kind == 'hash' then
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', count)
  onward = page[1]
  for at = 1, #page[2], 2 do
    look(page[2][at], page[2][at + 1])
  end
elseif kind == 'list' then
  local from = tonumber(cursor)
  if from >= 0 then
    for at, value in ipairs(redis.call('LRANGE', KEYS[1], from, from + count - 1)) do
      look(from + at - 1, value)
    end
    onward = from + count < size and from + count or 0
  else
    local page = redis.call('LRANGE', KEYS[1], from - count + 1, from)
    for at, value in ipairs(page) do
      look(from - #page + at, value)
    end
    onward = count - from <= size and from - count or 0
  end
elseif kind == 'set' then
  local page = redis.call('SSCAN', KEYS[1], cursor, 'COUNT', count)
  onward = page[1]
  for _, member in ipairs(page[2]) do
    look('', member)
  end
elseif kind == 'zset' then
  local page = redis.call('ZSCAN', KEYS[1], cursor, 'COUNT', count)
  onward = page[1]
  for at = 1, #page[2], 2 do
    look('', page[2][at])
  end
elseif kind == 'stream' then
  local page = redis.call('XRANGE', KEYS[1], cursor == '0' and '-' or '(' .. cursor, '+', 'COUNT', count)
  if #page == count then
    onward = page[#page][1]
  end
  for _, entry in ipairs(page) do
    for at = 1, #entry[2], 2 do
      look(entry[2][at], entry[2][at + 1])
    end
  end
end

if ARGV[7] == '0' and bytes > limit * ALONE then
  return {kind, 'alone', size, 0, 0, 0}
end
local reply = {kind, onward, size, seen, current, others}
for at = 1, #found do
  reply[at + 6] = found[at]
end
return reply
