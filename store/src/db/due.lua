-- Members of an index whose score is at most the server's clock in milliseconds, lowest first.
-- KEYS: the index. ARGV: how many at most.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
