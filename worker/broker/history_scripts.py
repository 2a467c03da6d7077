"""The Lua scripts that append to a channel's history in Redis, and read it."""

import hashlib

STEP_ENTRIES = 50
"""How many entries READ_SCRIPT fetches at a time, before it counts their bytes."""

PRODUCERS = 64
"""How many brokers a channel remembers before it forgets those of yesterday."""

PRODUCER_SECONDS = 86_400
"""After how long the last number of a broker may be forgotten."""

# KEYS meta, stream, and the idempotency key if there is one.
# ARGV message (origin, number, payload), pub/sub channel, an epoch in case there is none, size of the history, lifetime
# of the history in ms, the time in seconds, lifetime of the epoch in ms, that of the idempotency key in seconds.
# Answer: the position, after a "=" if the message was stored already.
# The first command that writes must be one that a full server rejects: after a write, it lets a script do anything.
# The meta hash outlives the stream, so that a client that comes late learns that it missed something. If the hash was
# lost alone (evicted), the rest of the stream belongs to another epoch and is deleted.
APPEND_SCRIPT = f"""
local origin, number = string.match(ARGV[1], '^(%S+) (%d+) ')
local producer = 'p:' .. origin
local epoch, offset, last = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'offset', producer))
if last and tonumber(number) <= tonumber(string.match(last, '^%d+')) then
    local head = origin .. ' ' .. number .. ' '
    local from = '+'
    repeat
        local found = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', {STEP_ENTRIES})
        for _, entry in ipairs(found) do
            from = string.match(entry[1], '^%d+')
            if string.sub(entry[2][2], 1, #head) == head then return '=' .. from .. ':' .. epoch end
        end
        from = string.format('%d', tonumber(from) and from - 1 or 0)
    until #found < {STEP_ENTRIES} or from == '0'
    return '=0:' .. epoch
end
if KEYS[3] then
    local seen = redis.call('GET', KEYS[3])
    if seen then return '=' .. seen end
end
epoch = epoch or ARGV[3]
offset = (offset or 0) + 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', offset, producer, number .. ' ' .. ARGV[6])
if offset == 1 then redis.call('DEL', KEYS[2]) end
if not last and redis.call('HLEN', KEYS[1]) > {PRODUCERS} then
    local all = redis.call('HGETALL', KEYS[1])
    for i = 1, #all, 2 do
        local seen_at = string.match(all[i + 1], '^%d+ (%d+)')
        if seen_at and tonumber(seen_at) < ARGV[6] - {PRODUCER_SECONDS} then redis.call('HDEL', KEYS[1], all[i]) end
    end
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], offset .. '-0', 'm', ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local position = string.format('%d', offset) .. ':' .. epoch
redis.call('PUBLISH', ARGV[2], position .. ' ' .. ARGV[1])
if KEYS[3] then redis.call('SET', KEYS[3], position, 'EX', ARGV[8]) end
return position
"""
APPEND_SHA = hashlib.sha1(APPEND_SCRIPT.encode()).hexdigest()  # noqa: S324 - EVALSHA wants it

# KEYS the idempotency key.
# ARGV message with what stands for its position, pub/sub channel, lifetime of the key in seconds.
# Answer: 1, or 0 if the message was published already. For channels without a history.
PUBLISH_ONCE_SCRIPT = """
if redis.call('GET', KEYS[1]) then return 0 end
redis.call('SET', KEYS[1], '-', 'EX', ARGV[3])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return 1
"""
PUBLISH_ONCE_SHA = hashlib.sha1(PUBLISH_ONCE_SCRIPT.encode()).hexdigest()  # noqa: S324

# KEYS meta, stream.
# ARGV an epoch in case there is none, lifetime of the epoch in ms, offset to read after ('' for the position only),
# count, 1 to read backwards from before the offset, lifetime of an epoch without messages in ms ('': no epoch is begun,
# and nothing is written), most bytes of entries.
# Answer: the position, the entries, and 1 if it stopped because of their bytes.
# Without an epoch there is nothing to read: the rest of a stream belongs to no epoch.
READ_SCRIPT = f"""
local epoch, offset = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'offset'))
if not epoch then
    if ARGV[6] == '' then return {{'0:', {{}}, 0}} end
    epoch, offset = ARGV[1], '0'
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'offset', offset)
    redis.call('DEL', KEYS[2])
end
if ARGV[6] ~= '' then
    redis.call('PEXPIRE', KEYS[1], offset == '0' and ARGV[6] or ARGV[2])
end
local entries, left, room, reverse = {{}}, tonumber(ARGV[4]), tonumber(ARGV[7]), ARGV[5] == '1'
local from = '+'
if ARGV[3] == '' then
    left = 0
elseif not reverse then
    from = string.format('%d', ARGV[3] + 1)
elseif ARGV[3] ~= '0' then
    from = string.format('%d', ARGV[3] - 1)
end
while left > 0 do
    local step = math.min(left, {STEP_ENTRIES})
    local found
    if reverse then
        found = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', step)
    else
        found = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', step)
    end
    for _, entry in ipairs(found) do
        if room <= 0 then return {{offset .. ':' .. epoch, entries, 1}} end
        entries[#entries + 1] = entry
        room = room - #entry[2][2]
    end
    if #found < step then break end
    left = left - step
    from = string.format('%d', string.match(found[step][1], '^%d+') + (reverse and -1 or 1))
    if from == '0' then break end
end
return {{offset .. ':' .. epoch, entries, 0}}
"""

READ_SHA = hashlib.sha1(READ_SCRIPT.encode()).hexdigest()  # noqa: S324

# KEYS meta. ARGV the epoch to end, a new one. The entries stay, but no client counts on their offsets any more.
RENEW_SCRIPT = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
"""
