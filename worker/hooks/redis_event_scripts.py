"""The Lua scripts of the events of sessions. Each changes the register of a session and its events in one step.

The register of a session is a hash: the facts that its events tell, and its channels. It exists from the `connected`
event of the session to its `disconnected` event. So each of these events is written once, however often a worker has to
try, and whichever worker does it.

KEYS of all: the index of the registers, the register of the session, then for each reader its stream and its counter of
dropped events. ARGV of all: for each reader the types of events that it wants, with a blank before and after each; how
many events may wait; now; how long a register is kept, in ms; the session id.
"""

FIRST_ARGUMENT = 7

_ADD = """
local facts = redis.call('HGET', KEYS[2], 'facts')
local function add(kind, channels)
    for reader = 1, 2 do
        if string.find(ARGV[reader], ' ' .. kind .. ' ', 1, true) then
            local stream, dropped = KEYS[1 + 2 * reader], KEYS[2 + 2 * reader]
            local over = redis.call('XLEN', stream) + 1 - tonumber(ARGV[3])
            if over > 0 then
                redis.call('XTRIM', stream, 'MAXLEN', tonumber(ARGV[3]) - 1)
                redis.call('INCRBY', dropped, over)
                redis.call('PEXPIRE', dropped, ARGV[5])
            end
            redis.call('XADD', stream, '*', 'type', kind, 'at', ARGV[4], 'facts', facts, 'channels', channels)
            redis.call('PEXPIRE', stream, ARGV[5])
        end
    end
end
local function keep()
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
"""

OPENED_SCRIPT = f"""
{_ADD}
local told = ARGV[9] ~= ''
if not facts then
    facts = ARGV[7]
    redis.call('HSET', KEYS[2], 'facts', facts)
    redis.call('ZADD', KEYS[1], ARGV[8], ARGV[6])
    if told then add('connected', '[]') end
end
for i = 10, #ARGV do
    if redis.call('HSETNX', KEYS[2], 'c:' .. ARGV[i], '1') == 1 and told then
        add('subscribed', cjson.encode({{ARGV[i]}}))
    end
end
keep()
"""
"""Note that a session was stored. More ARGV: its facts, when it may have expired, '' if there are to be no events about
what is noted now, then its channels."""

MOVED_SCRIPT = f"""
{_ADD}
if not facts then return end
for i = {FIRST_ARGUMENT}, #ARGV, 2 do
    local field, channels = 'c:' .. ARGV[i], cjson.encode({{ARGV[i]}})
    if ARGV[i + 1] ~= '' then
        if redis.call('HSETNX', KEYS[2], field, '1') == 1 then add('subscribed', channels) end
    elseif redis.call('HDEL', KEYS[2], field) == 1 then
        add('unsubscribed', channels)
    end
end
"""
"""Note which channels a session has entered and left. More ARGV: channels, and after each '1' or '' in turn."""

ENDED_SCRIPT = f"""
{_ADD}
redis.call('ZREM', KEYS[1], ARGV[6])
if not facts then return 0 end
local channels = {{}}
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, 1, 2) == 'c:' then table.insert(channels, string.sub(field, 3)) end
end
table.sort(channels)
redis.call('DEL', KEYS[2])
add('disconnected', #channels > 0 and cjson.encode(channels) or '[]')
return 1
"""
"""Note that a session is no longer stored. Returns 1 if that was not noted yet."""

LOOK_AGAIN_SCRIPT = f"""
{_ADD}
if not facts then return redis.call('ZREM', KEYS[1], ARGV[6]) end
redis.call('ZADD', KEYS[1], ARGV[7], ARGV[6])
keep()
"""
"""Note when a session may have expired. More ARGV: that time."""

RENEW_LEASE_SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Keep a lease. KEYS: lease. ARGV: its token, ttl in ms. Returns 0 if the lease is lost."""

RELEASE_LEASE_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""Give up a lease. KEYS: lease. ARGV: its token."""
