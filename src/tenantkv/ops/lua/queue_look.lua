-- Look at the queue: its sizes and counters, and some messages without receiving them.
--
-- KEYS 1-10 as in queue_common.lua
-- ARGV 1-6 as in queue_common.lua (lane '' : nothing is noted of this request)
--   7 'ready' 'delayed' 'flight' 'dead' or 'none'   8 from which place   9 how many, at most 100
-- Returns {incarnation, time, unfinished, losses, sizes, oldest, counters, id, envelope, when, returns, ...}:
--   sizes by 'b r f d x g s', oldest the age of the oldest ready message (ms) or -1, counters as HGETALL,
--   when the time of the index (ms; of ready messages since when they are)
if repair ~= '' then rare().mend() end
rare().reap()
local function since(score)
  return math.floor(math.fmod(tonumber(score), CLASS / 2) / 256) + EPOCH
end
local oldest = -1
for priority = 0, 9 do
  if have.r == 0 then break end
  for half = 0, 1 do
    local class = priority * CLASS + half * CLASS / 2
    local head = call('ZRANGEBYSCORE', ready, class, class + CLASS / 2 - 1, 'WITHSCORES', 'LIMIT', 0, 1)[2]
    -- Not below nothing, should the clock have been set back.
    if head then oldest = math.max(oldest, now - since(head), 0) end
  end
end
answer = {{have.b, have.r, have.f, have.d, have.x, have.g, have.s}, oldest, call('HGETALL', meta)}
local key = ({ready = ready, delayed = delayed, flight = flight, dead = dead})[ARGV[7]]
if key then
  local from = tonumber(ARGV[8])
  local found = call('ZRANGE', key, from, from + tonumber(ARGV[9]) - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    local id, when = found[at], tonumber(found[at + 1])
    if key == ready then when = since(when) end
    if key == flight then when = math.floor(when / TOKENS) + EPOCH end
    answer[#answer + 1] = id
    answer[#answer + 1] = call('HGET', bodies, id) or ''
    answer[#answer + 1] = string.format('%.0f', when)
    answer[#answer + 1] = call('HGET', state, 'n:' .. id) or '0'
  end
end
