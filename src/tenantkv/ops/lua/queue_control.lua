-- Pause, resume or purge.
--
-- KEYS 1-10 as in queue_common.lua
-- ARGV 1-6 as in queue_common.lua
--   7 'pause' 'resume' or 'purge'
-- Returns {incarnation, time, unfinished, losses, purged}: how many messages a purge removed
if not past then
  outcome = '0'
  if ARGV[7] == 'purge' then
    outcome = tostring(have.b)
    call('UNLINK', bodies, ready, flight, delayed, dead, groups, state)
    for _, name in ipairs(NAMES) do have[name] = 0 end
    repair = ''
    bump('purged', tonumber(outcome))
  elseif ARGV[7] == 'pause' then
    call('HSET', meta, 'p', '1')
  else
    call('HDEL', meta, 'p')
    woken = math.max(have.r, 1)
  end
end
answer = {outcome}
