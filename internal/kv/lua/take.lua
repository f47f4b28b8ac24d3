-- KEYS: buckets. ARGV: for each its interval and its capacity, interval × burst, in microseconds.
-- A bucket's value is the time at which its allowance is whole again, in microseconds
-- of this server's clock. The answer: 1 or 0, then how far ahead of now each bucket is.
-- Numbers are formatted by hand: Lua would write large ones with an exponent.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local answer, full, late = {1}, {}, {}
for i, key in ipairs(KEYS) do
  local interval, capacity = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local at = tonumber(redis.call('GET', key) or '') or now
  late[i] = at > now + capacity -- only after the clock has jumped back
  at = math.min(math.max(at, now), now + capacity)
  if at + interval > now + capacity then
    answer[1] = 0
  end
  full[i] = at
end
for i, key in ipairs(KEYS) do
  if answer[1] == 1 then
    full[i] = full[i] + tonumber(ARGV[2 * i - 1])
  end
  if answer[1] == 1 or late[i] then
    redis.call('SET', key, string.format('%.0f', full[i]), 'PX', string.format('%.0f', math.ceil((full[i] - now) / 1000)))
  end
  answer[i + 1] = full[i] - now
end
return answer
