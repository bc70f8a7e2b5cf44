"""The two steps that Redis takes for the prefix index, each a script: what it finds or writes is of one moment.

KEYS are an owner's three sorted sets: the beginnings that were sent, those of them that had to make room, the cache
blocks. Members are hashes of `size` bytes, which come one after the other in one argument; scores are the microseconds
at which they stop to count. The longer a beginning, the earlier that is, if only a little, and the sooner it makes
room: so the known beginnings of a prompt are its shortest. What expired is kept for the time of a life longer.
"""

_SHARED = """
local sent, evicted, blocks = KEYS[1], KEYS[2], KEYS[3]
local size = tonumber(ARGV[1])
local now = tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number)
  return string.format('%.0f', number)
end

local function member(all, number)
  return string.sub(all, size * (number - 1) + 1, size * number)
end

local function fate_of(set, hash)
  local score = redis.call('ZSCORE', set, hash)
  if not score then
    return 'never'
  end
  return tonumber(score) > now and 'known' or 'expired'
end

local function keep(set, micros)
  redis.call('PEXPIRE', set, whole(math.ceil(2 * micros / 1000)))
end
"""

# ARGV: size, now or nothing, the life of a block, the hashes of all beginnings, those of the blocks, longest first.
# Gives how many beginnings are known, why not the next, which block is hit, and what became of a longer one.
LOOK = f"""{_SHARED}
local life, hashes, wanted = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local low, count = 0, #hashes / size
local high = count
while low < high do
  local middle = math.floor((low + high + 1) / 2)
  if fate_of(sent, member(hashes, middle)) == 'known' then
    low = middle
  else
    high = middle - 1
  end
end
local fate = 'never'
if low < count then
  fate = fate_of(sent, member(hashes, low + 1))
  if fate == 'never' then
    fate = fate_of(evicted, member(hashes, low + 1))
  end
  if fate == 'known' then
    fate = 'evicted'
  end
end
local block_fate = 'never'
for number = 1, #wanted / size do
  local block = member(wanted, number)
  local is = fate_of(blocks, block)
  if is == 'known' then
    redis.call('ZADD', blocks, 'GT', whole(now + life), block)
    keep(blocks, life)
    return {{low, fate, number, block_fate}}
  end
  if block_fate == 'never' then
    block_fate = is
  end
end
return {{low, fate, 0, block_fate}}
"""

# ARGV: size, now or nothing, the number of the first of these beginnings, their hashes, their life, those of the marked
# blocks, their life, the most beginnings of an owner, the most that is remembered as evicted, the most purged at once.
# Gives the time, which is that of the same prompt's further beginnings too.
REMEMBER = f"""{_SHARED}
local first, hashes, life = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local marked, block_life = ARGV[6], tonumber(ARGV[7])
local most, evicted_most, purged_most = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local function purge(set, before)
  local old = redis.call('ZCOUNT', set, '-inf', whole(before))
  if old > 0 then
    redis.call('ZREMRANGEBYRANK', set, 0, math.min(old, purged_most) - 1)
  end
end

for number = 1, #hashes / size do
  redis.call('ZADD', sent, 'GT', whole(now + life - first - number), member(hashes, number))
end
keep(sent, life)
for number = 1, #marked / size do
  local block = member(marked, number)
  if fate_of(blocks, block) ~= 'known' then
    redis.call('ZADD', blocks, whole(now + block_life), block)
  end
end
if #marked > 0 then
  purge(blocks, now - block_life)
  keep(blocks, block_life)
end
purge(sent, now - life)
local excess = redis.call('ZCARD', sent) - most
if excess > 0 then
  local oldest = redis.call('ZPOPMIN', sent, excess)
  for number = 1, #oldest, 2 do
    redis.call('ZADD', evicted, oldest[number + 1], oldest[number])
  end
  redis.call('ZREMRANGEBYRANK', evicted, 0, -evicted_most - 1)
  keep(evicted, life)
end
return whole(now)
"""
