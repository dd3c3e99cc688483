-- Take the next message of several queues and note who holds it, in one step: no moment is left at which
-- a dying worker or a cut connection takes a message along. Repeatable: a claim that was answered before
-- is answered again.
--
-- KEYS[1]        hash   unacked: claim -> own name of the list, and the message
-- KEYS[2]        zset   unacked index: claim, scored by seconds since 1970 at which it was seen alive
-- KEYS[3]        hash   marks of taken messages: id -> claim, or "-" when it is done with
-- KEYS[4]        hash   the marks before those
-- KEYS[5]        hash   the ledger: how many messages each queue should hold
-- KEYS[6 ..5+n]  list   the queues, in the order in which they are asked
-- KEYS[6+n ..]   list   their bells, silenced when there is no message, or no more
--
-- ARGV[1]        the claim
-- ARGV[2]        seconds since 1970
-- ARGV[3]        how many marks to keep before they become the marks before
-- ARGV[4]        seconds that marks are kept
-- ARGV[5]        n
-- then n times   own name of the list, its field in the ledger or empty, "1" to hold the message
--
-- Returns false for no message, or {state, row}: "fresh", "again" for a repeated claim, "replayed" for a
-- message that was taken before. Behind a fresh one stands "last" if the lists are empty now: who is told so
-- need not ask again, and waits for the bells.

local lists = tonumber(ARGV[5])
local row = redis.call('HGET', KEYS[1], ARGV[1])
if not row then
  if redis.call('EXISTS', unpack(KEYS, 6)) == 0 then
    return false
  end
  if redis.call('EXISTS', unpack(KEYS, 6, 5 + lists)) == 0 then
    redis.call('DEL', unpack(KEYS, 6 + lists))
    return false
  end
end
-- These fail here, and not after a message was taken, if somebody changed a key's type.
redis.call('ZCARD', KEYS[2])
local marks = redis.call('HLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
redis.call('HLEN', KEYS[5])
if row then
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
  return {'again', row}
end
for at = 1, lists do
  local message = redis.call('RPOP', KEYS[5 + at])
  if message then
    local own, field, hold = ARGV[3 + 3 * at], ARGV[4 + 3 * at], ARGV[5 + 3 * at]
    if field ~= '' and redis.call('HINCRBY', KEYS[5], field, -1) < 0 then
      redis.call('HSET', KEYS[5], field, 0)
    end
    local id = string.sub(redis.sha1hex(message), 1, 24)
    if redis.call('HEXISTS', KEYS[4], id) == 1 or redis.call('HSETNX', KEYS[3], id, ARGV[1]) == 0 then
      return {'replayed', own}
    end
    redis.call('EXPIRE', KEYS[3], ARGV[4])
    if marks >= tonumber(ARGV[3]) then
      redis.call('RENAME', KEYS[3], KEYS[4])
    end
    row = #own .. ':' .. own .. message
    if hold == '1' then
      redis.call('HSET', KEYS[1], ARGV[1], row)
      redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    end
    if redis.call('EXISTS', unpack(KEYS, 6, 5 + lists)) == 0 then
      redis.call('DEL', unpack(KEYS, 6 + lists))
      return {'fresh', row, 'last'}
    end
    return {'fresh', row}
  end
end
return false
