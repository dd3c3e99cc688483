-- Gives a lock back, and wakes a waiter. Repeating it answers the same.
-- KEYS[1]  lock (string: the token, then + once somebody waits)
-- KEYS[2]  released (string: the marks of the latest releases)
-- KEYS[3]  wake (list)
-- ARGV[1]  token
-- ARGV[2]  mark: this lease's own
-- returns  1 if the lock was the token's, 0 if it was not
-- KEPT     for how long marks are kept, ms
-- WAKE     for how long an item waits in the wake list, ms
local KEPT, WAKE = 600000, 5000
-- Numbers as text: writing them takes as long as a command.
local value = redis.pcall('GETRANGE', KEYS[1], '0', '63')
if value == ARGV[1] or value == ARGV[1] .. '+' then
  redis.call('DEL', KEYS[1])
  local size = redis.pcall('APPEND', KEYS[2], ARGV[2])
  if type(size) == 'table' or size > 2048 then
    redis.call('SET', KEYS[2], ARGV[2], 'PX', KEPT)
  elseif size == #ARGV[2] then
    redis.call('PEXPIRE', KEYS[2], KEPT)
  end
  if value ~= ARGV[1] then
    redis.call('UNLINK', KEYS[3])
    redis.call('LPUSH', KEYS[3], 1)
    redis.call('PEXPIRE', KEYS[3], WAKE)
  end
  return 1
end
-- Released before, and the reply was lost?
local marks = redis.pcall('GETRANGE', KEYS[2], 0, 4095)
if type(marks) == 'string' and string.find(marks, ARGV[2], 1, true) then
  return 1
end
return 0
