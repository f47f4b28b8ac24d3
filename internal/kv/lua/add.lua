-- KEYS[1] key; ARGV: change, time to live in milliseconds of a new counter.
-- The sum goes back as the stored text: a Lua number has 53 bits only.
redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
