-- Put dead letters back to the others, or drop them.
--
-- KEYS 1-10 as in queue_common.lua
-- ARGV 1-6 as in queue_common.lua
--   7 'redrive' or 'drop'   8 how many of the oldest, at most 100   9 and on: these ids instead
-- Returns {incarnation, time, unfinished, losses, moved}
if not past then
  local ids = {}
  if #ARGV > 8 then
    for at = 9, #ARGV do ids[at - 8] = ARGV[at] end
  else
    ids = call('ZRANGE', dead, 0, tonumber(ARGV[8]) - 1)
  end
  local moved = 0
  for _, id in ipairs(ids) do
    local removed = call('ZREM', dead, id)
    if removed == 1 then
      have.x = have.x - 1
      have.s = have.s - call('HDEL', state, 'n:' .. id)
      if ARGV[7] == 'drop' then
        have.b = have.b - call('HDEL', bodies, id)
        bump('dropped_dead', 1)
      else
        rare().enqueue(id)
        bump('redriven', 1)
      end
      moved = moved + 1
    end
  end
  outcome = tostring(moved)
end
answer = {outcome}
