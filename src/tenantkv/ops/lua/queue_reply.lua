-- Acknowledge one message and leave its result for whoever asked for it.
--
-- KEYS 1-10 as in queue_common.lua
--   11 results  hash    id -> envelope of the result
--   12 terms    zset    id by when its result goes, w:<id> by when nobody waits for it any more (ms)
--   13 asked    list    a token for the one who waits for this result
-- ARGV 1-6 as in queue_common.lua
--   7 id   8 receipt number   9 envelope   10 how long the result stays (ms)
-- Returns {incarnation, time, unfinished, losses, stale}; stale as in queue_receive.lua
if not past then
  local results, terms, asked = KEYS[11], KEYS[12], KEYS[13]
  local id = ARGV[7]
  if holds(call('ZSCORE', flight, id), ARGV[8]) then
    outcome = ''
    have.f = have.f - call('ZREM', flight, id)
    bump('acknowledged', 1)
    rare().forget(id)
    for key, kind in pairs({[results] = 'hash', [terms] = 'zset', [asked] = 'list'}) do
      local type_of = call('TYPE', key).ok
      if type_of ~= kind and type_of ~= 'none' then call('UNLINK', key) end
    end
    call('HSET', results, id, ARGV[9])
    call('ZADD', terms, now + tonumber(ARGV[10]), id)
    local old = call('ZRANGEBYSCORE', terms, '-inf', now, 'LIMIT', 0, 20)
    if #old == 0 and call('ZCARD', terms) > 10000 then old = call('ZRANGE', terms, 0, 0) end
    if #old > 0 then
      call('ZREM', terms, unpack(old))
      call('HDEL', results, unpack(old))
    end
    for _, key in ipairs({results, terms}) do call('PEXPIRE', key, retention) end
    local waits = call('ZSCORE', terms, 'w:' .. id)
    if waits and tonumber(waits) > now then rare().push(asked, {'1'}) end
  else
    outcome = '0'
  end
end
answer = {outcome}
