"""What the Valkey transport has the server do in one step, in Lua. Redis 7.0 commands only.

Layout of one topic's keys (they share a hash tag, so that a cluster keeps them together):

    seawall:{topic}               stream  what was published
    seawall:{topic}:delayed       zset    published with a delay, by due time
    seawall:{topic}:G:retry       stream  for group G only: retried, released, redriven
    seawall:{topic}:G:delayed     zset    for group G only: retries that are not yet due
    seawall:{topic}:G:dead        stream  dead letters of group G

An entry of the topic is `id, data, headers[, key]`. Entries of the group's streams carry the
original fields, whatever they are, behind fields of our own: `attempt, dropped, failed, at` in
front in the retry stream, `reason, error, attempts, died, failed, edited, at` in the dead one;
`at` is when it was published, `failed` when the group first failed over it (0: nobody knows). A
delayed one is MessagePack of `[nonce, attempt, at, original fields, failed]`.

Fencing: a delivery is ours while the entry is pending for our consumer name with the delivery
count we saw. Whoever reclaims it changes one of the two.
"""

from seawall.messaging.transports.resp import Script

NOW = -1  # instead of milliseconds

_COMMON = """
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function ms_of(id) return tonumber(string.match(id, '^(%d+)')) end
-- Is the delivery `id`, seen with delivery count `count`, still that of `consumer`?
local function ours(stream, group, consumer, id, count)
  local p = redis.call('XPENDING', stream, group, id, id, 1, consumer)
  return #p == 1 and p[1][4] == tonumber(count)
end
-- The original fields of an entry, and when it was published.
local function original(fields, id, front)
  if front == 0 then return fields, ms_of(id) end
  local rest = {}
  for i = front + 1, #fields do rest[#rest + 1] = fields[i] end
  return rest, tonumber(fields[front])
end
local function append(stream, head, fields)
  local call = {'XADD', stream, '*'}
  for _, v in ipairs(head) do call[#call + 1] = v end
  for _, v in ipairs(fields) do call[#call + 1] = v end
  return redis.call(unpack(call))
end
local function settle(stream, group, id, front)
  redis.call('XACK', stream, group, id)
  if front > 0 then redis.call('XDEL', stream, id) end
end
-- Milliseconds that the caller names; `NOW` is for the server's now.
local function at_of(ms) return tonumber(ms) < 0 and now_ms() or tonumber(ms) end
"""

_GROUPS = """
local function info(flat)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end
local function group_of(stream, name)
  if redis.call('EXISTS', stream) == 0 then return nil end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local t = info(flat)
    if t['name'] == name then return t end
  end
end
"""

# KEYS stream · ARGV group consumer front (id count)... · answers the ids that were not ours
ACK = Script(
    _COMMON
    + """
local stream, group, consumer, front = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local lost = {}
local mine = {}
local function flush()
  if #mine == 0 then return end
  redis.call('XACK', stream, group, unpack(mine))
  if front > 0 then redis.call('XDEL', stream, unpack(mine)) end
  mine = {}
end
-- What is acked is mostly what is oldest of ours: one look at that is half the work of a look
-- at each (measured). What it does not show is looked at singly.
local counts = {}
for _, p in ipairs(redis.call('XPENDING', stream, group, '-', '+', #ARGV, consumer)) do
  counts[p[1]] = p[4]
end
for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  if counts[id] == tonumber(count) or ours(stream, group, consumer, id, count) then
    mine[#mine + 1] = id
    if #mine == 1000 then flush() end
  else
    lost[#lost + 1] = id
  end
end
flush()
return lost
"""
)

# KEYS stream · ARGV group consumer (id count)... · answers the ids that were not ours
EXTEND = Script(
    _COMMON
    + """
local lost = {}
for i = 3, #ARGV, 2 do
  if ours(KEYS[1], ARGV[1], ARGV[2], ARGV[i], ARGV[i + 1]) then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

# KEYS stream retry delayed · ARGV group consumer front id count attempt dropped delay_ms failed
# answers 1, or 0 if it was not ours. A release is a retry that counts one attempt less.
RETRY = Script(
    _COMMON
    + """
local stream, group, front, id = KEYS[1], ARGV[1], tonumber(ARGV[3]), ARGV[4]
if not ours(stream, group, ARGV[2], id, ARGV[5]) then return 0 end
local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then redis.call('XACK', stream, group, id) return 0 end
local fields, at = original(entry[2], id, front)
local attempt, delay = tonumber(ARGV[6]), tonumber(ARGV[8])
if delay > 0 then
  local packed = cmsgpack.pack({front .. '/' .. id, attempt, at, fields, at_of(ARGV[9])})
  redis.call('ZADD', KEYS[3], now_ms() + delay, packed)
else
  append(KEYS[2], {'attempt', attempt, 'dropped', ARGV[7], 'failed', at_of(ARGV[9]), 'at', at},
    fields)
end
settle(stream, group, id, front)
return 1
"""
)

# KEYS stream dead · ARGV group consumer front id count attempts reason error limit failed
# answers 1, 0 if it was not ours, -1 if there is no room for a further dead letter.
DEAD = Script(
    _COMMON
    + """
local stream, group, front, id = KEYS[1], ARGV[1], tonumber(ARGV[3]), ARGV[4]
if not ours(stream, group, ARGV[2], id, ARGV[5]) then return 0 end
local entry = redis.call('XRANGE', stream, id, id)[1]
if not entry then redis.call('XACK', stream, group, id) return 0 end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[9]) then return -1 end
local fields, at = original(entry[2], id, front)
append(KEYS[2], {'reason', ARGV[7], 'error', ARGV[8], 'attempts', ARGV[6], 'died', now_ms(),
  'failed', at_of(ARGV[10]), 'edited', 0, 'at', at}, fields)
settle(stream, group, id, front)
return 1
"""
)

# KEYS dead retry · ARGV front letter_id... · answers how many
REDRIVE = Script(
    _COMMON
    + """
local moved = 0
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local fields, at = original(entry[2], ARGV[i], tonumber(ARGV[1]))
    append(KEYS[2], {'attempt', 0, 'dropped', 0, 'failed', 0, 'at', at}, fields)
    redis.call('XDEL', KEYS[1], ARGV[i])
    moved = moved + 1
  end
end
return moved
"""
)

# KEYS delayed · ARGV delay_ms nonce field... · stores one delayed message
DELAY = Script(
    _COMMON
    + """
local fields = {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end
local now = now_ms()
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), cmsgpack.pack({ARGV[2], 0, now, fields}))
return redis.call('ZCARD', KEYS[1])
"""
)

# The regular work of a group, done by whoever fetches: move what is due, take over what lost
# its lease. At most 100 due messages a call keep the server's pause below a millisecond or so.
#
# KEYS topic topic-delayed retry group-delayed · ARGV group consumer lease_ms limit cursor cursor
# answers {ms until the next is due or -1, cursor, entries, cursor, entries}; an entry is
# {id, delivery count, fields}
CHORES = Script(
    _COMMON
    + """
local now = now_ms()
local function pump(zset, stream, with_head)
  local due = redis.call('ZRANGE', zset, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
  for _, packed in ipairs(due) do
    local m = cmsgpack.unpack(packed)
    local head = {'attempt', m[2], 'dropped', 0, 'failed', m[5] or 0, 'at', m[3]}
    append(stream, with_head and head or {}, m[4])
    redis.call('ZREM', zset, packed)
  end
  local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return first[2] and math.max(0, tonumber(first[2]) - now) or -1
end
local a = pump(KEYS[2], KEYS[1], false)
local b = pump(KEYS[4], KEYS[3], true)
local due = a
if a < 0 or (b >= 0 and b < a) then due = b end
local function take_over(stream, cursor)
  local r = redis.call('XAUTOCLAIM', stream, ARGV[1], ARGV[2], ARGV[3], cursor, 'COUNT', ARGV[4])
  local entries = {}
  for _, entry in ipairs(r[2]) do
    local p = redis.call('XPENDING', stream, ARGV[1], entry[1], entry[1], 1)
    entries[#entries + 1] = {entry[1], p[1][4], entry[2]}
  end
  return r[1], entries
end
local c1, e1 = take_over(KEYS[1], ARGV[5])
local c2, e2 = take_over(KEYS[3], ARGV[6])
return {due, c1, e1, c2, e2}
"""
)

# Removes what every group has settled; where there is no group, all but the youngest `keep`.
# Also removes consumers that left nothing behind and have not been seen for `forget_ms`.
#
# KEYS topic [retry] · ARGV keep forget_ms
# answers {the topic's length, how many were dropped that nobody had read}
TRIM = Script(
    _COMMON
    + _GROUPS
    + """
local topic = KEYS[1]
if redis.call('EXISTS', topic) == 0 then return {0, 0} end
local function before(a, b)
  local am, as = string.match(a, '^(%d+)-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)-(%d+)$')
  am, as, bm, bs = tonumber(am), tonumber(as), tonumber(bm), tonumber(bs)
  return am < bm or (am == bm and as < bs)
end
local oldest
local groups = redis.call('XINFO', 'GROUPS', topic)
for _, flat in ipairs(groups) do
  local g = info(flat)
  local needed = g['last-delivered-id']
  if g['pending'] > 0 then needed = redis.call('XPENDING', topic, g['name'])[2] end
  if not oldest or before(needed, oldest) then oldest = needed end
end
local dropped = 0
if oldest then
  redis.call('XTRIM', topic, 'MINID', '~', oldest)
else
  dropped = redis.call('XTRIM', topic, 'MAXLEN', '~', ARGV[1])
end
local function sweep(stream)
  if redis.call('EXISTS', stream) == 0 then return end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local name = info(flat)['name']
    for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', stream, name)) do
      c = info(c)
      if c['pending'] == 0 and c['idle'] > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', stream, name, c['name'])
      end
    end
  end
end
sweep(topic)
if KEYS[2] then sweep(KEYS[2]) end
return {redis.call('XLEN', topic), dropped}
"""
)

# Deletes our consumer name, unless entries are still pending for it: they would be lost.
#
# KEYS stream · ARGV group consumer
LEAVE = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
""")

# KEYS topic topic-delayed retry group-delayed dead · ARGV group
# answers {ready, in flight, delayed, dead, ms since the oldest unsettled was published,
# ever published, ever read by the group}; -1 for what the server lost count of
LAG = Script(
    _COMMON
    + _GROUPS
    + """
local now = now_ms()
local oldest = now
local function saw(ms) if ms and ms < oldest then oldest = ms end end
local ready, in_flight = 0, 0
local added, read = 0, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  added = info(redis.call('XINFO', 'STREAM', KEYS[1]))['entries-added'] or -1
end
local g = group_of(KEYS[1], ARGV[1])
if g then
  in_flight = g['pending']
  read = g['entries-read'] or (g['last-delivered-id'] == '0-0' and 0 or -1)
  if in_flight > 0 then saw(ms_of(redis.call('XPENDING', KEYS[1], ARGV[1])[2])) end
  local behind = '(' .. g['last-delivered-id']
  local first = redis.call('XRANGE', KEYS[1], behind, '+', 'COUNT', 1)[1]
  if first then
    saw(ms_of(first[1]))
    -- Without a lag (the server lost count after deletions) at least this many.
    ready = g['lag'] or #redis.call('XRANGE', KEYS[1], behind, '+', 'COUNT', 10000)
  end
end
local r = group_of(KEYS[3], ARGV[1])
if r then
  in_flight = in_flight + r['pending']
  ready = ready + redis.call('XLEN', KEYS[3]) - r['pending']
  local first = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)[1]
  if first then saw(tonumber(first[2][8])) end
end
local due = redis.call('ZRANGE', KEYS[4], 0, 0)[1]
if due then saw(cmsgpack.unpack(due)[3]) end
local delayed = redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[4])
return {ready, in_flight, delayed, redis.call('XLEN', KEYS[5]), now - oldest, added, read}
"""
)

# What a group would read next, from its own stream first, as it does.
#
# KEYS retry topic · ARGV group limit · answers {entries of retry, entries of topic}
PEEK = Script(
    _GROUPS
    + """
local left = tonumber(ARGV[2])
local found = {}
for i, stream in ipairs(KEYS) do
  found[i] = {}
  if left > 0 and redis.call('EXISTS', stream) == 1 then
    local g = group_of(stream, ARGV[1])
    local start = g and '(' .. g['last-delivered-id'] or '-'
    found[i] = redis.call('XRANGE', stream, start, '+', 'COUNT', left)
    left = left - #found[i]
  end
end
return found
"""
)

ALL = (ACK, EXTEND, RETRY, DEAD, REDRIVE, DELAY, CHORES, TRIM, LEAVE, LAG, PEEK)
