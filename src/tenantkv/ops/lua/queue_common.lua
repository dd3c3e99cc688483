-- What every script of a queue begins with; `ops/queue_scripts.py` puts it in front of each.
--
-- KEYS (of one queue, in one slot; the order is that of `ops/queue_keys.py`)
--   1  meta      hash    i incarnation, q last place, t last receipt number, p paused, w receivers wait
--                        until (ms), z senders wait until (ms), e next refresh of TTLs (ms), h repair:
--                        pass and cursor; b r f d x g s expected sizes of the structures (the ledger);
--                        counters; c:<lane> number and outcome of the lane's last request
--   2  state     hash    n:<id> returns [and why it died], k:<group> the group's message whose turn it is
--   3  bodies    hash    id -> envelope
--   4  ready     zset    id by class and place; see `make_ready`
--   5  flight    zset    id by deadline (ms since 2025) * 8192 + receipt number
--   6  delayed   zset    id by due time (ms since 1970)
--   7  dead      zset    id by time of death (ms since 1970)
--   8  groups    zset    <group>:<place>:<id>, all of score 0: who waits behind whom
--   9  wake      list    a token for each receiver to wake
--   10 space     list    a token for each sender to wake
-- ARGV
--   1 incarnation to use if the queue has none   2 lane   3 number of the request in its lane
--   4 retention (ms)   5 most dead letters   6 most deliveries
-- An id is a digit (priority), 16 characters (see `ops/queue_ids.py`), [~ expiry in ms] [@ group of 16 characters].
local meta, state, bodies, ready, flight, delayed, dead, groups, wake, space = unpack(KEYS, 1, 10)
local call = redis.call
local lane, number = ARGV[2], tonumber(ARGV[3])
local retention, most_dead, most_deliveries = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local EPOCH, TOKENS, CLASS, PLAIN = 1735689600000, 8192, 562949953421312, 17
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local NAMES = {'b', 'r', 'f', 'd', 'x', 'g', 's'}
local SIZE = {'HLEN', 'ZCARD', 'ZCARD', 'ZCARD', 'ZCARD', 'ZCARD', 'HLEN'}
local KEY = {b = bodies, r = ready, f = flight, d = delayed, x = dead, g = groups, s = state}
local FIELDS = {'i', 'q', 't', 'w', 'z', 'e', 'h', 'b', 'r', 'f', 'd', 'x', 'g', 's'}
-- Made at their size: growing a table costs as much as a command.
local have = {b = 0, r = 0, f = 0, d = 0, x = 0, g = 0, s = 0}
local was = {b = 0, r = 0, f = 0, d = 0, x = 0, g = 0, s = 0}
local lost, bumps = {}, {}
local woken = 0

local known = redis.pcall('HMGET', meta, 'i', 'q', 't', 'p', 'w', 'z', 'e', 'h',
  'b', 'r', 'f', 'd', 'x', 'g', 's', 'c:' .. lane)
if known.err then
  call('UNLINK', meta)
  known = {}
  for at = 1, 16 do known[at] = false end
end
local incarnation = known[1] or ARGV[1]
local place, token = tonumber(known[2] or 0) or 0, tonumber(known[3] or clock[2]) or 0
local place_before, token_before = place, token
local paused = known[4] and known[4] ~= ''
local receivers_until, senders_until = tonumber(known[5] or 0) or 0, tonumber(known[6] or 0) or 0
local refresh_at, repair = tonumber(known[7] or 0) or 0, known[8] or ''

-- Compare the structures with the ledger. What has another type was replaced: it goes, and counts as lost.
for at = 1, 7 do
  local name = NAMES[at]
  local size = redis.pcall(SIZE[at], KEY[name])
  if type(size) ~= 'number' then
    call('UNLINK', KEY[name])
    size = 0
  end
  have[name], was[name] = size, size
  local expected = tonumber(known[8 + at] or size) or size
  if size ~= expected then
    lost[#lost + 1] = name
    lost[#lost + 1] = expected - size
  end
end


local function bump(name, by)
  bumps[name] = (bumps[name] or 0) + by
end

-- Indexes that outlived both the messages and the ledger tell at least how many messages there were.
local orphans = have.r + have.f + have.d + have.x + have.g
if not known[1] and have.b == 0 and orphans > 0 then
  lost[1], lost[2] = 'b', orphans
end
if #lost > 0 or (not known[1] and have.b + have.s > 0) then
  for at = 1, #lost, 2 do
    if lost[at + 1] > 0 then
      bump('lost:' .. lost[at], lost[at + 1])
    else
      bump('foreign:' .. lost[at], -lost[at + 1])
    end
  end
  if have.b == 0 then
    call('UNLINK', ready, flight, delayed, dead, groups, state)
    for _, name in ipairs(NAMES) do have[name] = 0 end
    repair = ''
  else
    repair = '1:0'
  end
end

local function next_place()
  place = math.max(place + 1, (now - EPOCH) * 256)
  return place
end

-- Everything that most requests do not need. Making a function costs as much as a command, so these are
-- made where they are asked for first: `rare().name(...)`.
local made
local function make_rare()
  -- Higher priorities first; in each, what came back before what is new, and then by place.
  local function make_ready(id, is_back)
    local class = (57 - (string.byte(id) or 48)) * CLASS
    if not is_back then class = class + CLASS / 2 end
    have.r = have.r + call('ZADD', ready, class + next_place(), id)
    woken = woken + 1
  end

  local function group_of(id)
    return #id > PLAIN and string.match(id, '@(.+)$') or nil
  end

  local function enter_group(name, id)
    have.g = have.g + call('ZADD', groups, 0, string.format('%s:%015.0f:%s', name, next_place(), id))
  end

  -- If it was the message's turn in its group, let the next one go.
  local function advance(name, id)
    local turn = call('HGET', state, 'k:' .. name)
    if turn and turn ~= id then return end
    local head
    if have.g > 0 then
      head = call('ZRANGEBYLEX', groups, '[' .. name .. ':', '(' .. name .. ';', 'LIMIT', 0, 1)[1]
    end
    if not head then
      have.s = have.s - call('HDEL', state, 'k:' .. name)
      return
    end
    have.g = have.g - call('ZREM', groups, head)
    local follower = string.sub(head, #name + 18)
    have.s = have.s + call('HSET', state, 'k:' .. name, follower)
    make_ready(follower)
  end

  -- Ready now, or behind its group's others.
  local function enqueue(id, is_back)
    local name = group_of(id)
    if name then
      local added = call('HSETNX', state, 'k:' .. name, id)
      have.s = have.s + added
      if added == 0 and call('HGET', state, 'k:' .. name) ~= id then return enter_group(name, id) end
    end
    make_ready(id, is_back)
  end

  -- A message that is in no index any more leaves nothing behind.
  local function forget(id)
    have.b = have.b - call('HDEL', bodies, id)
    if have.s > 0 then
      have.s = have.s - call('HDEL', state, 'n:' .. id)
      local name = group_of(id)
      if name then advance(name, id) end
    end
  end

  local function bury(id, why)
    local returns = tonumber(call('HGET', state, 'n:' .. id) or 0) or 0
    have.s = have.s + call('HSET', state, 'n:' .. id, returns .. ' ' .. why)
    have.x = have.x + call('ZADD', dead, now, id)
    bump('died', 1)
    local name = group_of(id)
    if name then advance(name, id) end
    if have.x > most_dead then
      local oldest = call('ZPOPMIN', dead)[1]
      have.x = have.x - 1
      have.b = have.b - call('HDEL', bodies, oldest)
      have.s = have.s - call('HDEL', state, 'n:' .. oldest)
      bump('dropped_dead', 1)
    end
  end

  -- A delivery that ended without success, with or without its consumer's word.
  local function give_back(id, delay, why)
    local returns = (tonumber(call('HGET', state, 'n:' .. id) or 0) or 0) + 1
    have.s = have.s + call('HSET', state, 'n:' .. id, returns)
    bump('returned', 1)
    if returns >= most_deliveries then
      bury(id, why)
    elseif delay > 0 then
      have.d = have.d + call('ZADD', delayed, now + delay, id)
      woken = woken + 1
    else
      make_ready(id, true)
    end
  end

  -- Move what is due, and what its consumer has held for too long; a hundred of each at the most.
  local function reap()
    if have.d > 0 then
      local due = call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 100)
      for _, id in ipairs(due) do
        have.d = have.d - call('ZREM', delayed, id)
        make_ready(id)
      end
    end
    if have.f > 0 then
      local late = call('ZRANGEBYSCORE', flight, '-inf', (now - EPOCH) * TOKENS, 'LIMIT', 0, 100)
      for _, id in ipairs(late) do
        have.f = have.f - call('ZREM', flight, id)
        bump('timed_out', 1)
        give_back(id, 0, 'deliveries')
      end
    end
  end

  local function earliest()
    local times = {}
    local head = have.d > 0 and call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
    if head then times[1] = tonumber(head) - now end
    head = have.f > 0 and call('ZRANGE', flight, 0, 0, 'WITHSCORES')[2]
    if head then times[#times + 1] = math.floor(tonumber(head) / TOKENS) + EPOCH + 1 - now end
    if #times == 0 then return -1 end
    return math.max(0, math.min(unpack(times)))
  end

  local function seen(name, id)
    for _, member in ipairs(call('ZRANGEBYLEX', groups, '[' .. name .. ':', '(' .. name .. ';', 'LIMIT', 0, 100)) do
      if string.sub(member, #name + 18) == id then return true end
    end
    return false
  end

  -- One step of putting the indexes right from the bodies, after a structure was lost.
  local function mend()
    local pass, cursor = string.match(repair, '^(%d):(%d+)$')
    if pass == '1' then
      local page = call('HSCAN', bodies, cursor, 'COUNT', 20)
      for at = 1, #page[2], 2 do
        local id = page[2][at]
        local name = group_of(id)
        if call('ZSCORE', ready, id) or call('ZSCORE', flight, id) or call('ZSCORE', delayed, id) then
          if name then have.s = have.s + call('HSETNX', state, 'k:' .. name, id) end
        elseif not call('ZSCORE', dead, id) and not (name and seen(name, id)) then
          enqueue(id, true)
          bump('recovered', 1)
        end
      end
      repair = page[1] == '0' and '2:0' or '1:' .. page[1]
    elseif pass == '2' then
      local page = call('ZSCAN', groups, cursor, 'COUNT', 20)
      for at = 1, #page[2], 2 do
        local name = string.match(page[2][at], '^([^:]+):')
        if name and call('HEXISTS', state, 'k:' .. name) == 0 then advance(name, '') end
      end
      repair = page[1] == '0' and '' or '2:' .. page[1]
    else
      repair = ''
    end
  end

  -- Dead letters do not stay longer than anything else does.
  local function clear_old_dead()
    for _, id in ipairs(call('ZRANGEBYSCORE', dead, '-inf', now - retention, 'LIMIT', 0, 100)) do
      have.x = have.x - call('ZREM', dead, id)
      have.b = have.b - call('HDEL', bodies, id)
      have.s = have.s - call('HDEL', state, 'n:' .. id)
      bump('dropped_dead', 1)
    end
  end

  -- Lanes of processes that are gone: a few at random whenever there is a new one.
  local function clear_old_lanes()
    local some = redis.pcall('HRANDFIELD', meta, 16, 'WITHVALUES')
    -- Before Redis 6.2: the same few each time, until they are gone.
    if some.err then some = call('HSCAN', meta, 0, 'COUNT', 16)[2] end
    for at = 1, #some, 2 do
      local stamp = string.sub(some[at], 1, 2) == 'c:' and string.match(some[at + 1], '^%d+|(%d+)|')
      if stamp and tonumber(stamp) < now - 3600000 then call('HDEL', meta, some[at]) end
    end
  end

  local function push(list, tokens)
    if call('LPUSH', list, unpack(tokens)) > 64 then call('LTRIM', list, 0, 63) end
    call('PEXPIRE', list, 10000)
  end

  local function tokens_for(amount)
    local tokens = {}
    for at = 1, math.min(amount, 16) do tokens[at] = '1' end
    return tokens
  end

  made = {
    make_ready = make_ready, enqueue = enqueue, forget = forget, bury = bury, give_back = give_back,
    reap = reap, earliest = earliest, mend = mend, clear_old_dead = clear_old_dead,
    clear_old_lanes = clear_old_lanes, push = push, tokens_for = tokens_for,
  }
  return made
end
local function rare()
  return made or make_rare()
end

-- Whether a receipt is that of the delivery under way.
local function holds(score, receipt)
  return score and math.fmod(tonumber(score), TOKENS) == tonumber(receipt)
end

-- The outcome of this very request, if it was carried out before and its reply was lost.
local past
if known[16] then
  local last, _, told = string.match(known[16], '^(%d+)|(%d+)|(.*)$')
  if last and tonumber(last) >= number then past = told end
end
-- What each script sets: the outcome for a repetition, and what follows in the reply.
local outcome, answer = past or '', {}
