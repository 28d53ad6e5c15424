-- Reads records and the server's clock in one step.
-- KEYS: the records. Returns seconds, microseconds, then revision and text of each ('0' and '' when there is none).
local t = redis.call('TIME')
local answer = { t[1], t[2] }
for i = 1, #KEYS do
  local r = redis.call('HMGET', KEYS[i], 'v', 'b')
  answer[#answer + 1] = r[1] or '0'
  answer[#answer + 1] = r[2] or ''
end
return answer
