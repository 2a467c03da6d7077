"""The Lua scripts of the session store. Each touches one key, so that the keys may lie on different servers."""

from wsd.worker.contract.redis_keys import worker_channel

# In Lua: the channel of the worker whose id is in `owner`.
OWNER_CHANNEL = "'" + worker_channel("' .. owner .. '") + "'"

# In Lua: ARGV from `first` on holds fields and values in turn; an empty value removes the field.
SET_FIELDS = """
for i = first, #ARGV, 2 do
    if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
    else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
"""

CREATE_SCRIPT = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
"""Store a session. KEYS: session. ARGV: ttl in ms, then fields and values."""

INDEX_SCRIPT = """
for i = 4, #ARGV do redis.call('ZADD', KEYS[1], ARGV[3], ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""
"""Enter sessions into an index, and remove expired entries. KEYS: index. ARGV: ttl in ms, now, expiry, session ids."""

SHORTEN_SCRIPT = """
redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[3])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last and redis.call('PTTL', KEYS[1]) > 0 then
    redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(0, last - ARGV[1]) * 1000))
end
"""
"""Let an entry expire earlier, and with the last entry the index. KEYS: index. ARGV: now, expiry, session id."""

TOUCH_SCRIPT = """
local owner = redis.call('HGET', KEYS[1], 'worker_id')
if not owner then return 0 end
if owner ~= ARGV[2] then return 2 end
redis.call('HSET', KEYS[1], 'last_seen', ARGV[3], 'state', 'connected')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""
"""Keep a session alive. KEYS: session. ARGV: ttl in ms, worker id, last seen.

Returns 1 if that was done, 0 if there is no such session, 2 if another worker serves it by now.
"""

DETACH_SCRIPT = """
if redis.call('HGET', KEYS[1], 'worker_id') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'detached')
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'last_seen', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
"""
"""Detach a session, unless another worker serves it by now. KEYS: session. ARGV: ttl in ms, the worker that lost it,
last seen ('': unchanged, and so is the expiry). Returns 1 if that was done, else 0."""

CHANNELS_SCRIPT = f"""
if redis.call('HGET', KEYS[1], 'worker_id') ~= ARGV[1] then return 0 end
local first = 2
{SET_FIELDS}
return 1
"""
"""Set fields of a session that a worker serves. KEYS: session. ARGV: worker id, then fields and values."""

CLAIM_SCRIPT = f"""
local user, owner, token, last = unpack(redis.call('HMGET', KEYS[1], 'user_id', 'worker_id', 'token', 'last_token'))
if not owner or user ~= ARGV[1] or ARGV[2] == '' then return false end
if token ~= ARGV[2] and last ~= ARGV[2] then return false end
redis.call('HSET', KEYS[1], 'token', ARGV[3], 'last_token', ARGV[2], 'worker_id', ARGV[4], 'node_id', ARGV[5],
    'last_seen', ARGV[6], 'state', 'connected', 'username', ARGV[9])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
if owner ~= ARGV[4] then redis.call('PUBLISH', {OWNER_CHANNEL}, ARGV[8]) end
return {{owner, redis.call('HGETALL', KEYS[1])}}
"""
"""Take over a session. KEYS: session. ARGV: user id, token, new token, worker id, node id, last seen, ttl in ms, the
message for its owner, username. Returns the previous worker and the session, or nothing."""

METADATA_SCRIPT = f"""
local owner = redis.call('HGET', KEYS[1], 'worker_id')
if not owner then return 0 end
local first = 3
{SET_FIELDS}
if owner ~= ARGV[1] then redis.call('PUBLISH', {OWNER_CHANNEL}, ARGV[2]) end
return 1
"""
"""Set fields of a session, whichever worker serves it. KEYS: session. ARGV: worker id of the caller, the message
for its owner, then fields and values. Returns 0 if there is no such session."""

DELETE_SCRIPT = f"""
local user, owner = unpack(redis.call('HMGET', KEYS[1], 'user_id', 'worker_id'))
redis.call('DEL', KEYS[1])
if owner and owner ~= ARGV[1] then redis.call('PUBLISH', {OWNER_CHANNEL}, ARGV[2]) end
return {{user, owner}}
"""
"""Delete a session. KEYS: session. ARGV: worker id of the caller, the message for the owner. Returns the user and the
worker that it belonged to."""

RELEASE_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""Give up a lease. KEYS: lease. ARGV: its token."""
