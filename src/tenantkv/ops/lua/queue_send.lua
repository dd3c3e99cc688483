-- Send messages.
--
-- KEYS 1-10 as in queue_common.lua
--   11 recent    hash    dedupe member -> ms and id, of this window   (only with dedupe)
--   12 earlier   hash    the same of the window before                (only with dedupe)
-- ARGV 1-6 as in queue_common.lua
--   7 most unfinished messages, 0 for any number   8 'raise' 'wait' 'drop_oldest' when there are more
--   9 how long a waiting sender waits (ms)   10 dedupe window (ms)
--   11 'plain': then pairs of id, envelope
--      'full':  then fours of id, envelope, due ('' now, '+ms' from now, 'ms' since 1970), dedupe member
-- Returns {incarnation, time, unfinished, losses, outcome}; the outcome is '' if all were taken, 'full' if
--   none was, or the pairs at=id of messages that were duplicates of those.
local first = 12
local function drop_oldest(amount)
  if have.r < amount then return false end
  for _ = 1, amount do
    local last = call('ZRANGE', ready, -1, -1, 'WITHSCORES')
    if not last[1] then return false end
    local class = math.floor(tonumber(last[2]) / CLASS) * CLASS
    local id = call('ZRANGEBYSCORE', ready, class, '+inf', 'LIMIT', 0, 1)[1]
    have.r = have.r - call('ZREM', ready, id)
    rare().forget(id)
    bump('dropped', 1)
  end
  return true
end

local is_plain = ARGV[11] == 'plain'
local stride = is_plain and 2 or 4
local amount = (#ARGV - first + 1) / stride
local most = tonumber(ARGV[7])
local over = most > 0 and have.b - have.x + amount - most or 0
if over > 0 and not past then
  if ARGV[8] ~= 'drop_oldest' or not drop_oldest(over) then
    if ARGV[8] == 'wait' then senders_until = math.max(senders_until, now + tonumber(ARGV[9])) end
    call('DEL', space)
    bump('refused', amount)
    -- Not noted: the same request may be made again.
    lane, outcome, amount = '', 'full', 0
  end
end

if past or outcome == 'full' then
  amount = 0
elseif is_plain then
  have.b = have.b + call('HSET', bodies, unpack(ARGV, first))
  -- One place for all: the ids of one request are in order, and that is how equal scores are ordered.
  local at_place, scored, scores, filled = next_place(), {}, {}, 0
  for at = first, #ARGV, 2 do
    local priority = string.byte(ARGV[at]) or 48
    local score = scores[priority]
    if not score then
      score = string.format('%.0f', (57 - priority) * CLASS + CLASS / 2 + at_place)
      scores[priority] = score
    end
    scored[filled + 1], scored[filled + 2] = score, ARGV[at]
    filled = filled + 2
  end
  have.r = have.r + call('ZADD', ready, unpack(scored))
  woken = amount
else
  local recent, earlier, window = KEYS[11], KEYS[12], tonumber(ARGV[10])
  if recent then
    for _, key in ipairs({recent, earlier}) do
      local kind = call('TYPE', key).ok
      if kind ~= 'hash' and kind ~= 'none' then call('UNLINK', key) end
    end
    local began = tonumber(call('HGET', recent, '') or 0) or 0
    if now - began >= window or call('HLEN', recent) > 100000 then
      if began > 0 then call('RENAME', recent, earlier) end
      call('HSET', recent, '', now)
      call('PEXPIRE', recent, window * 2)
    end
  end
  local taken, same_as = 0, {}
  for at = first, #ARGV, 4 do
    local id, due, member = ARGV[at], ARGV[at + 2], ARGV[at + 3]
    local same
    if member ~= '' then
      for _, key in ipairs({recent, earlier}) do
        local stamp, other = string.match(call('HGET', key, member) or '', '^(%d+):(.*)$')
        if stamp and tonumber(stamp) + window > now then same = other end
      end
    end
    if not same and call('HSETNX', bodies, id, ARGV[at + 1]) == 0 then same = id end
    if same then
      same_as[#same_as + 1] = (at - first) / 4 .. '=' .. same
    else
      taken = taken + 1
      have.b = have.b + 1
      if member ~= '' then call('HSET', recent, member, string.format('%.0f:%s', now, id)) end
      if due == '' then
        rare().enqueue(id)
      else
        local time = string.sub(due, 1, 1) == '+' and now + tonumber(due) or tonumber(due)
        if time <= now then
          rare().enqueue(id)
        else
          have.d = have.d + call('ZADD', delayed, math.min(time, now + retention), id)
          woken = woken + 1
        end
      end
    end
  end
  if taken < amount then bump('duplicates', amount - taken) end
  amount = taken
  outcome = table.concat(same_as, ',')
end
if amount > 0 then bump('sent', amount) end
answer = {outcome}
