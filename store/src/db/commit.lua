-- Applies a set of changes if every record still has the revision that was read.
-- KEYS: the revision counter; the checked records; the written records; the deleted records; one index per
--       entry to add, to move, to remove.
-- ARGV: how many checks, puts, deletes, adds, moves, removes; the revisions; then per put its text and its time to
--       live in ms (0: for ever); per add and move its score and member; per remove its member.
local checks, puts, deletes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local adds, moves, removes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local k, a = 1, 6
for i = 1, checks do
  local revision = redis.call('HGET', KEYS[k + i], 'v') or '0'
  if revision ~= ARGV[a + i] then return 0 end
end
k, a = k + checks, a + checks
for i = 1, puts do
  local text, ttl = ARGV[a + 2 * i - 1], tonumber(ARGV[a + 2 * i])
  redis.call('HSET', KEYS[k + i], 'v', redis.call('INCR', KEYS[1]), 'b', text)
  if ttl > 0 then redis.call('PEXPIRE', KEYS[k + i], ttl) else redis.call('PERSIST', KEYS[k + i]) end
end
k, a = k + puts, a + 2 * puts
for i = 1, deletes do redis.call('DEL', KEYS[k + i]) end
k = k + deletes
for i = 1, adds do redis.call('ZADD', KEYS[k + i], ARGV[a + 2 * i - 1], ARGV[a + 2 * i]) end
k, a = k + adds, a + 2 * adds
for i = 1, moves do redis.call('ZADD', KEYS[k + i], 'XX', ARGV[a + 2 * i - 1], ARGV[a + 2 * i]) end
k, a = k + moves, a + 2 * moves
for i = 1, removes do redis.call('ZREM', KEYS[k + i], ARGV[a + i]) end
return 1
