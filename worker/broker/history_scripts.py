"""The Lua scripts that append to a channel's history in Redis, and read it."""

import hashlib

from wsd.worker.broker.history import IDEMPOTENCY_SECONDS

STEP_ENTRIES = 50
"""Entries that the script looks at together, before it counts their bytes."""

PRODUCERS = 64
"""Workers that are remembered by channel before those of yesterday are forgotten."""

PRODUCER_SECONDS = 86_400

# KEYS meta, stream, and the idempotency key if there is one. ARGV message (origin, number, payload), pub/sub channel,
# an epoch in case there is none, history size, its ttl in ms, seconds now, for how many ms the epoch is remembered.
# Answers the position, after a "=" where the message was there already. The first command that writes must be one that
# a full server refuses: after a write, it lets a script have all it wants.
# The meta hash outlives the stream, so that a client that comes late learns that it missed something; if it was lost
# alone (evicted), what is left of the stream belongs to another epoch and must go.
APPEND_SCRIPT = f"""
local origin, number = string.match(ARGV[1], '^(%S+) (%d+) ')
local producer = 'p:' .. origin
local epoch, offset, last = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'offset', producer))
if last and tonumber(number) <= tonumber(string.match(last, '^%d+')) then
    local head = origin .. ' ' .. number .. ' '
    for _, entry in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-')) do
        if string.sub(entry[2][2], 1, #head) == head then
            return '=' .. string.match(entry[1], '^%d+') .. ':' .. epoch
        end
    end
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
if KEYS[3] then redis.call('SET', KEYS[3], position, 'EX', {IDEMPOTENCY_SECONDS}) end
return position
"""
APPEND_SHA = hashlib.sha1(APPEND_SCRIPT.encode()).hexdigest()  # noqa: S324 - EVALSHA's own

# KEYS meta, stream; ARGV an epoch in case there is none, for how many ms it is remembered, offset to read after ('' for
# the top only), count, 1 to read backwards, from before the offset, for how many ms an epoch without messages is kept
# ('': it is not begun, and nothing is written), and how many bytes of entries at most. Without an epoch there is
# nothing to read: what is left of a stream belongs to none. It answers the position, the entries, and 1 if it stopped
# for their bytes.
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

# KEYS meta; ARGV the epoch to end, a new one. What it holds stays: it is only that nobody may count on it.
RENEW_SCRIPT = """
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[1], 'epoch', ARGV[2])
"""
