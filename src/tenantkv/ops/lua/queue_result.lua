-- Look for a message's result, and say that somebody waits for it.
--
-- KEYS 1-10 as in queue_common.lua (lane '' : nothing is noted of this request)
--   11 results  hash   12 terms  zset, as in queue_reply.lua
-- ARGV 1-6 as in queue_common.lua
--   7 id   8 for how long the caller will wait (ms)
-- Returns {incarnation, time, unfinished, losses, state, what}: 'done' and the envelope, 'dead' and why,
--   'gone' if the queue no longer has the message, 'pending'
local id = ARGV[7]
local found, what = 'pending', ''
local envelope = redis.pcall('HGET', KEYS[11], id)
if type(envelope) == 'string' then
  found, what = 'done', envelope
elseif call('ZSCORE', dead, id) then
  found, what = 'dead', call('HGET', state, 'n:' .. id) or ''
elseif call('HEXISTS', bodies, id) == 0 then
  found = 'gone'
elseif tonumber(ARGV[8]) > 0 then
  redis.pcall('ZADD', KEYS[12], now + tonumber(ARGV[8]), 'w:' .. id)
  redis.pcall('PEXPIRE', KEYS[12], retention)
end
answer = {found, what}
