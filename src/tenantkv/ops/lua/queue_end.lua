-- What every script of a queue ends with; `ops/queue_scripts.py` puts it behind each.
-- Write the ledger, the outcome for a repetition of this request, and the TTLs; wake who waits.
if not past then
  local freed = was.b - was.x - have.b + have.x
  if woken > 0 and receivers_until > now then
    if call('TYPE', wake).ok ~= 'list' then call('UNLINK', wake) end
    rare().push(wake, rare().tokens_for(woken))
  end
  if freed > 0 and senders_until > now then
    if call('TYPE', space).ok ~= 'list' then call('UNLINK', space) end
    rare().push(space, rare().tokens_for(freed))
  end
  local is_time = now >= refresh_at
  if is_time then
    refresh_at = now + 60000
    if have.x > 0 then rare().clear_old_dead() end
  end
  local fields = {}
  local before = {known[1], place_before, token_before, tonumber(known[5] or 0), tonumber(known[6] or 0),
    tonumber(known[7] or 0), known[8] or ''}
  local after = {incarnation, place, token, receivers_until, senders_until, refresh_at, repair}
  for at = 1, 14 do
    local value = after[at] or have[NAMES[at - 7]]
    if value ~= (before[at] or tonumber(known[at + 1] or -1)) then
      fields[#fields + 1] = FIELDS[at]
      fields[#fields + 1] = value
    end
  end
  if lane ~= '' then
    fields[#fields + 1] = 'c:' .. lane
    fields[#fields + 1] = ARGV[3] .. '|' .. string.format('%.0f', now) .. '|' .. outcome
  end
  local added = #fields > 0 and call('HSET', meta, unpack(fields)) or 0
  for name, by in pairs(bumps) do call('HINCRBY', meta, name, by) end
  if added > 0 and known[1] and not known[16] then rare().clear_old_lanes() end
  if is_time or not known[1] then call('PEXPIRE', meta, retention) end
  for _, name in ipairs(NAMES) do
    if have[name] > 0 and (is_time or was[name] == 0) then call('PEXPIRE', KEY[name], retention) end
  end
else
  -- Nothing was written down, so the next request tells of it.
  lost = {}
end
local losses = {}
for at = 1, #lost, 2 do losses[#losses + 1] = lost[at] .. '=' .. lost[at + 1] end
return {incarnation, string.format('%.0f', now), have.b - have.x, table.concat(losses, ','), unpack(answer)}
