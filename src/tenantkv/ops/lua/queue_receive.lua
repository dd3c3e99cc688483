-- Acknowledge what is done, and receive what comes next.
--
-- KEYS 1-10 as in queue_common.lua
-- ARGV 1-6 as in queue_common.lua
--   7 most messages to receive, 0 for none   8 visibility timeout (ms)
--   9 how long the receiver will wait if there is nothing (ms)
--   10 and on: pairs of id and receipt number to acknowledge
-- Returns {incarnation, time, unfinished, losses, stale, next, receipt, id, envelope, returns, ...}:
--   stale the places (from 0) of acknowledgements of deliveries that are over, with commas between
--   next in how many ms something falls due, or -1; only if nothing was received
--   returns how often the message was delivered before, or the text that was stored
local want, visibility, wait = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local stale, ids, envelopes, next_ms, score = {}, {}, {}, -1, ''

if past then
  -- The same answer: what was delivered then lies in flight under the same score.
  local late
  score, late = string.match(past, '^(%d*)/(.*)$')
  stale, want, next_ms = {late}, 0, 0
  if score ~= '' then
    token = math.fmod(tonumber(score), TOKENS)
    for _, id in ipairs(call('ZRANGEBYSCORE', flight, score, score, 'LIMIT', 0, 1000)) do
      local envelope = call('HGET', bodies, id)
      if envelope then
        ids[#ids + 1] = id
        envelopes[#envelopes + 1] = envelope
      end
    end
  end
end

if not past and #ARGV > 9 then
  local asked, done, plain = {}, {}, true
  for at = 10, #ARGV, 2 do asked[#asked + 1] = ARGV[at] end
  local scores = redis.pcall('ZMSCORE', flight, unpack(asked))
  if scores.err then
    -- Before Redis 6.2.
    for at, id in ipairs(asked) do scores[at] = call('ZSCORE', flight, id) end
  end
  for at, id in ipairs(asked) do
    if holds(scores[at], ARGV[9 + at * 2]) then
      done[#done + 1] = id
      plain = plain and #id == PLAIN
    else
      stale[#stale + 1] = at - 1
    end
  end
  if #done > 0 then
    -- The same message twice in one request is one acknowledgement.
    local removed = call('ZREM', flight, unpack(done))
    have.f = have.f - removed
    bump('acknowledged', removed)
    if plain and have.s == 0 then
      have.b = have.b - call('HDEL', bodies, unpack(done))
    else
      for _, id in ipairs(done) do rare().forget(id) end
    end
  end
end

if want > 0 and not paused then
  if repair ~= '' then rare().mend() end
  local late = (now - EPOCH) * TOKENS
  if (have.d > 0 and call('ZCOUNT', delayed, '-inf', now) > 0)
    or (have.f > 0 and call('ZCOUNT', flight, '-inf', late) > 0) then rare().reap() end
  local taken = 0
  -- Popped under a bound: expired messages and those without a body are passed over.
  for _ = 1, 4 do
    if have.r == 0 or taken >= want then break end
    local popped = call('ZPOPMIN', ready, want - taken)
    local some = {}
    for at = 1, #popped, 2 do some[#some + 1] = popped[at] end
    if #some == 0 then break end
    have.r = have.r - #some
    local found = call('HMGET', bodies, unpack(some))
    for at, id in ipairs(some) do
      local expiry = #id > PLAIN and string.match(id, '~(%d+)')
      if not found[at] then
        rare().forget(id)
        bump('ghosts', 1)
      elseif expiry and tonumber(expiry) <= now then
        rare().forget(id)
        bump('expired', 1)
      else
        taken = taken + 1
        ids[taken], envelopes[taken] = id, found[at]
      end
    end
  end
  if #ids > 0 then
    token = math.fmod(token + 1, TOKENS)
    score = string.format('%.0f', (now + visibility - EPOCH) * TOKENS + token)
    local scored = {}
    for at, id in ipairs(ids) do
      scored[at * 2 - 1], scored[at * 2] = score, id
    end
    have.f = have.f + call('ZADD', flight, unpack(scored))
    bump('received', #ids)
    woken = woken - #ids
  end
end
if want > 0 and #ids == 0 then
  if not paused then next_ms = (have.r > 0 or repair ~= '') and 0 or rare().earliest() end
  if next_ms ~= 0 then
    call('DEL', wake)
    receivers_until = math.max(receivers_until, now + wait)
  end
elseif want > 0 and have.r > 0 then
  -- Whoever takes some and leaves some wakes the next one.
  woken = math.max(woken, 1)
end

local late = table.concat(stale, ',')
outcome = score .. '/' .. late
answer = {late, next_ms, token}
local counts = {}
if #ids > 0 and have.s > 0 then
  local fields = {}
  for at, id in ipairs(ids) do fields[at] = 'n:' .. id end
  counts = call('HMGET', state, unpack(fields))
end
for at, id in ipairs(ids) do
  answer[at * 3 + 1] = id
  answer[at * 3 + 2] = envelopes[at]
  answer[at * 3 + 3] = counts[at] or '0'
end
