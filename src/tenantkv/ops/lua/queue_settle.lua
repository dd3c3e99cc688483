-- End or prolong deliveries other than by plain acknowledgement.
--
-- KEYS 1-10 as in queue_common.lua
-- ARGV 1-6 as in queue_common.lua
--   7 and on: fours of id, receipt number, verb, argument
--      'release' with the delay (ms)   'bury' with why, a word   'extend' with the visibility timeout (ms)
--      'return' with the delay (ms): as release, but it does not count as a delivery
-- Returns {incarnation, time, unfinished, losses, stale}; stale as in queue_receive.lua
local stale = {}
for at = 7, past and 0 or #ARGV, 4 do
  local id, verb, argument = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  local score = call('ZSCORE', flight, id)
  if not holds(score, ARGV[at + 1]) then
    stale[#stale + 1] = (at - 7) / 4
  elseif verb == 'extend' then
    call('ZADD', flight, (now + tonumber(argument) - EPOCH) * TOKENS + tonumber(ARGV[at + 1]), id)
  else
    have.f = have.f - call('ZREM', flight, id)
    if verb == 'bury' then
      rare().bury(id, argument)
    elseif verb == 'release' then
      rare().give_back(id, tonumber(argument), 'deliveries')
    elseif tonumber(argument) > 0 then
      have.d = have.d + call('ZADD', delayed, now + tonumber(argument), id)
      woken = woken + 1
    else
      rare().make_ready(id, true)
    end
  end
end
if not past then outcome = table.concat(stale, ',') end
answer = {outcome}
