"""The two steps that Redis takes for us, each one script and so one step for everybody who asks.

They keep the rules of `window.py` in the same order; a test gives both the same asks and wants the same answers.

A window is a hash: `at`, microseconds of the last taking; `oldest`, its oldest second; `requests` and `tokens`, the
sums; and for each second "requests,tokens,last", where `last` is the microsecond within it of its last taking. Leases
are a sorted set of receipts by the microsecond when they end. All keys of a call share a hash tag, and all expire.

Lua writes large numbers shortened, hence `whole` wherever one is written. Going back less than a minute, the clock is
taken to stand still; going back further, as it may after a repair, it starts the window anew.
"""

_SHARED = """
local SECOND, MINUTE = 1000000, 60000000

local function whole(number)
  return string.format('%.0f', number)
end

local function bucket_of(key, second)
  local value = redis.call('HGET', key, whole(second))
  if not value then
    return nil
  end
  local requests, tokens, last = string.match(value, '^(%-?%d+),(%-?%d+),(%d+)$')
  return {requests = tonumber(requests), tokens = tonumber(tokens), last = tonumber(last)}
end

local function write_bucket(key, second, bucket)
  redis.call('HSET', key, whole(second),
    whole(bucket.requests) .. ',' .. whole(bucket.tokens) .. ',' .. whole(bucket.last))
end
"""

# KEYS: the windows in the order of the caps, then that of the surge rule, if there is one, then the leases.
# ARGV: now or '', per second, surge or '', tokens, receipt, how many keys are leases, then requests and tokens per
# minute of each cap, '' for none, then limit and length of each lease.
# Answers {1, second, rooms…} or {0, kind, index of the key, wait or -1, limit, current, window, rooms…}; a room is
# limit, remaining, reset, with -1 for none.
TAKE = (
    _SHARED
    + """
local SURGE_SECONDS, SURGE_FREE, CONCURRENCY_RETRY, NEVER = 10, 10, 1000000, math.huge
local per_second, surge = ARGV[2] == '1', tonumber(ARGV[3])
local tokens, receipt, leases = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local count = #KEYS - leases
local caps = surge and count - 1 or count

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * SECOND + time[2]
end

local windows = {}
for i = 1, count do
  local read = redis.call('HMGET', KEYS[i], 'at', 'oldest', 'requests', 'tokens')
  local window = {
    key = KEYS[i], at = tonumber(read[1]), oldest = tonumber(read[2]),
    requests = tonumber(read[3]) or 0, tokens = tonumber(read[4]) or 0,
  }
  if window.at and window.at > now + MINUTE then
    redis.call('DEL', window.key)
    window = {key = window.key, requests = 0, tokens = 0}
  end
  windows[i] = window
end
for i = 1, count do
  now = math.max(now, windows[i].at or now)
end
local second = math.floor(now / SECOND)
local next_second = (second + 1) * SECOND - now

local function newest(window)
  return math.floor(window.at / SECOND)
end

local function forget(window)
  if not window.at then
    return
  end
  if window.at <= now - MINUTE then
    redis.call('DEL', window.key)
    window.at, window.oldest, window.requests, window.tokens = nil, nil, 0, 0
    return
  end
  local changed = false
  for s = window.oldest, newest(window) do
    local bucket = bucket_of(window.key, s)
    if bucket and s * SECOND + bucket.last > now - MINUTE then
      window.oldest = s
      window.oldest_last = s * SECOND + bucket.last
      break
    end
    if bucket then
      redis.call('HDEL', window.key, whole(s))
      window.requests = window.requests - bucket.requests
      window.tokens = window.tokens - bucket.tokens
      changed = true
    end
  end
  if changed then
    redis.call('HSET', window.key, 'oldest', whole(window.oldest),
      'requests', whole(window.requests), 'tokens', whole(window.tokens))
  end
end

local function leave_in(window, what, amount)
  for s = window.oldest, newest(window) do
    local bucket = bucket_of(window.key, s)
    if bucket then
      amount = amount - bucket[what]
      if amount <= 0 then
        return s * SECOND + bucket.last + MINUTE - now
      end
    end
  end
  error('more should leave the window than is in it')
end

local worst = nil
local function found(wait, kind, index, limit, current, length)
  if not worst or wait > worst[1] then
    worst = {wait, kind, index, limit, current, length}
  end
end

local function cap_of(i)
  return tonumber(ARGV[5 + 2 * i]), tonumber(ARGV[6 + 2 * i])
end

local function lease_of(i)
  return KEYS[count + i], tonumber(ARGV[5 + 2 * (caps + i)]), tonumber(ARGV[6 + 2 * (caps + i)])
end

local function judge(i)
  local window, rpm, tpm = windows[i], cap_of(i)
  local this = bucket_of(window.key, second) or {requests = 0, tokens = 0}
  window.this = this
  if rpm and window.requests >= rpm then
    found(leave_in(window, 'requests', window.requests + 1 - rpm), 1, i, rpm, window.requests, 60)
  end
  if rpm and per_second and this.requests >= math.ceil(rpm / 60) then
    found(next_second, 1, i, math.ceil(rpm / 60), this.requests, 1)
  end
  if tpm and window.tokens + tokens > tpm then
    local wait = NEVER
    if tokens <= tpm then
      wait = leave_in(window, 'tokens', window.tokens + tokens - tpm)
    end
    found(wait, 2, i, tpm, window.tokens, 60)
  end
  if tpm and per_second and this.tokens > 0 and this.tokens + tokens > math.ceil(tpm / 60) then
    found(next_second, 2, i, math.ceil(tpm / 60), this.tokens, 1)
  end
end

local function judge_surge(i)
  local counts = {}
  for s = second - 2 * SURGE_SECONDS + 1, second do
    local bucket = bucket_of(windows[i].key, s)
    counts[s] = bucket and bucket.requests or 0
  end
  windows[i].this = bucket_of(windows[i].key, second)
  local function ten_until(last)
    local sum = 0
    for s = last - SURGE_SECONDS + 1, last do
      sum = sum + (counts[s] or 0)
    end
    return sum
  end
  local function over(last)
    return ten_until(last) + 1 > surge * ten_until(last - SURGE_SECONDS) + SURGE_FREE
  end
  local later = 0
  while over(second + later) do
    later = later + 1
  end
  if later > 0 then
    local allowed = math.floor(surge * ten_until(second - SURGE_SECONDS)) + SURGE_FREE
    found((second + later) * SECOND - now, 3, i, allowed, ten_until(second), SURGE_SECONDS)
  end
end

for i = 1, count do
  forget(windows[i])
end
for i = 1, caps do
  judge(i)
end
if surge then
  judge_surge(count)
end
for i = 1, leases do
  local key, most = lease_of(i)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  -- Sent once more after a lost connection, it may run here already.
  redis.call('ZREM', key, receipt)
  local running = redis.call('ZCARD', key)
  if running >= most then
    found(CONCURRENCY_RETRY, 4, count + i, most, running, 0)
  end
end

local function take(window)
  local this = window.this
  if not this or not this.last then
    this = {requests = 0, tokens = 0}
  end
  this.requests, this.tokens = this.requests + 1, this.tokens + tokens
  this.last = now - second * SECOND
  write_bucket(window.key, second, this)
  window.at = now
  window.requests, window.tokens = window.requests + 1, window.tokens + tokens
  if not window.oldest then
    window.oldest = second
  end
  if window.oldest == second then
    window.oldest_last = now
  end
  redis.call('HSET', window.key, 'at', whole(now), 'oldest', whole(window.oldest),
    'requests', whole(window.requests), 'tokens', whole(window.tokens))
  redis.call('PEXPIRE', window.key, 2 * MINUTE / 1000)
end

if not worst then
  for i = 1, count do
    take(windows[i])
  end
  for i = 1, leases do
    local key, _, length = lease_of(i)
    redis.call('ZADD', key, whole(now + length), receipt)
    local expiry = math.ceil(length / 1000) + 1000
    if redis.call('PTTL', key) < expiry then
      redis.call('PEXPIRE', key, whole(expiry))
    end
  end
end

local function least(limit_of, what)
  local limit, remaining, reset = -1, -1, -1
  for i = 1, caps do
    local window, cap = windows[i], limit_of(i)
    if cap then
      local left = cap - window[what]
      if limit < 0 or left < remaining then
        limit, remaining = cap, left
        reset = window.oldest and window.oldest_last + MINUTE - now or 0
      end
    end
  end
  return limit, math.max(remaining, limit < 0 and -1 or 0), reset
end

local r_limit, r_left, r_reset = least(function(i) return (cap_of(i)) end, 'requests')
local t_limit, t_left, t_reset = least(function(i) return select(2, cap_of(i)) end, 'tokens')
if not worst then
  return {1, second, r_limit, r_left, r_reset, t_limit, t_left, t_reset}
end
local wait = worst[1] == NEVER and -1 or worst[1]
return {0, worst[2], worst[3], wait, worst[4], worst[5], worst[6],
  r_limit, r_left, r_reset, t_limit, t_left, t_reset}
"""
)

# KEYS: the windows, then the leases. ARGV: second, requests, tokens, receipt, how many keys are leases.
PUT_BACK = (
    _SHARED
    + """
local second, requests, tokens, receipt = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local count = #KEYS - tonumber(ARGV[5])
for i = count + 1, #KEYS do
  redis.call('ZREM', KEYS[i], receipt)
end
if requests == 0 and tokens == 0 then
  return 0
end
for i = 1, count do
  local bucket = bucket_of(KEYS[i], second)
  if bucket then
    local fewer = math.min(requests, bucket.requests)
    local less = math.min(tokens, bucket.tokens)
    bucket.requests, bucket.tokens = bucket.requests - fewer, bucket.tokens - less
    write_bucket(KEYS[i], second, bucket)
    redis.call('HINCRBY', KEYS[i], 'requests', whole(0 - fewer))
    redis.call('HINCRBY', KEYS[i], 'tokens', whole(0 - less))
  end
end
return 0
"""
)
