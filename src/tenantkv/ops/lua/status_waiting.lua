-- Tells of the lists in which a Celery queue's messages wait, or a channel's, without changing anything.
-- KEYS[1-]  list
-- ARGV[1]   where the oldest message of a list stands: 0 or -1
-- ARGV[2]   bytes above which a message is not handed out
-- returns   {messages in all lists (number), of each list the oldest message, or an empty one}
local depth, oldest = 0, {}
for at, key in ipairs(KEYS) do
  local count = redis.pcall('LLEN', key)
  local message = ''
  if type(count) == 'number' and count > 0 then
    depth = depth + count
    message = redis.call('LINDEX', key, ARGV[1])
  end
  oldest[at] = #message <= tonumber(ARGV[2]) and message or ''
end
return {depth, oldest}
