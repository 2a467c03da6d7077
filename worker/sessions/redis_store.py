"""Sessions in Redis: a hash each, which expires by itself, and sorted sets to find them by user and by worker.

No command looks at more than it must (no KEYS, no SCAN). An index entry that outlived its session is never
believed: the session itself is always read, and the entry expires by its own score. Every command and script
touches one key, so that the keys may lie on different servers.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import msgspec

from wsd.worker.broker.message_broker import UNNUMBERED
from wsd.worker.contract.redis_keys import (
    CLEANUP_KEY,
    SESSION_WORKERS_KEY,
    SESSIONS_KEY,
    heartbeat_key,
    session_key,
    user_sessions_key,
    worker_channel,
    worker_sessions_key,
)
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis
from wsd.worker.sessions.session_store import (
    Claim,
    Clock,
    SessionChanged,
    SessionInfo,
    SessionState,
    SessionStore,
    merged,
    oldest_first,
    resubscribed,
)

logger = get_logger(__name__)

METADATA_PREFIX = "m:"
"""Each metadata key is a field of the hash, so that two workers can change two keys at once."""

CHANNEL_PREFIX = "c:"

BATCH = 500
"""Sessions in one pipeline: a reply of a few 100 KB."""

CLEANUP_LEASE_SECONDS = 30

T = TypeVar("T")

# In Lua: the channel of the worker whose id is in `owner`.
OWNER_CHANNEL = "'" + worker_channel("' .. owner .. '") + "'"

# In Lua: ARGV from `first` on are field and value, '' removes the field.
SET_FIELDS = """
for i = first, #ARGV, 2 do
    if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
    else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
"""

# KEYS session; ARGV ttl in ms, then fields and values.
CREATE_SCRIPT = """
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

# KEYS index; ARGV ttl in ms, now, expiry, then session ids.
INDEX_SCRIPT = """
for i = 4, #ARGV do redis.call('ZADD', KEYS[1], ARGV[3], ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""

# KEYS index; ARGV now, expiry, session id. The index of a user or a worker ends with its last entry.
SHORTEN_SCRIPT = """
redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[3])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last and redis.call('PTTL', KEYS[1]) > 0 then
    redis.call('PEXPIRE', KEYS[1], math.ceil(math.max(0, last - ARGV[1]) * 1000))
end
"""

# KEYS session; ARGV ttl in ms, worker id, last seen. 1: kept alive, 0: there is none, 2: another worker has it now.
TOUCH_SCRIPT = """
local owner = redis.call('HGET', KEYS[1], 'worker_id')
if not owner then return 0 end
if owner ~= ARGV[2] then return 2 end
redis.call('HSET', KEYS[1], 'last_seen', ARGV[3], 'state', 'connected')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

# KEYS session; ARGV ttl in ms, the worker that lost it, last seen. Not when another worker has it by now.
DETACH_SCRIPT = """
if redis.call('HGET', KEYS[1], 'worker_id') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'detached')
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'last_seen', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
"""

# KEYS session; ARGV its worker, then fields and values.
CHANNELS_SCRIPT = f"""
if redis.call('HGET', KEYS[1], 'worker_id') ~= ARGV[1] then return 0 end
local first = 2
{SET_FIELDS}
return 1
"""

# KEYS session; ARGV user id, token, new token, worker id, node id, last seen, ttl in ms, the message for its owner,
# username.
# Answers whose it was, and the session.
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

# KEYS session; ARGV worker id of the caller, the message for its owner, then fields and values.
METADATA_SCRIPT = f"""
local owner = redis.call('HGET', KEYS[1], 'worker_id')
if not owner then return 0 end
local first = 3
{SET_FIELDS}
if owner ~= ARGV[1] then redis.call('PUBLISH', {OWNER_CHANNEL}, ARGV[2]) end
return 1
"""

# KEYS session; ARGV worker id of the caller, the message for its owner. Answers whose it was.
DELETE_SCRIPT = f"""
local user, owner = unpack(redis.call('HMGET', KEYS[1], 'user_id', 'worker_id'))
redis.call('DEL', KEYS[1])
if owner and owner ~= ARGV[1] then redis.call('PUBLISH', {OWNER_CHANNEL}, ARGV[2]) end
return {{user, owner}}
"""

# KEYS lease; ARGV its token.
RELEASE_SCRIPT = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisSessionStore(SessionStore):
    """Keeps the worker's own sessions in memory, too (`get` of them asks nobody); the Redis copy is for the rest.

    Raises RedisError or OSError where Redis does not answer.
    """

    def __init__(
        self,
        redis: Redis,
        worker_id: str,
        ttl: float,
        clock: Clock = time.time,
        judges: Callable[[], bool] = lambda: True,
    ) -> None:
        """`judges`: whether a worker without a heartbeat may be taken for dead now, see `Roster`."""
        super().__init__(ttl)
        self._judges = judges
        self._redis = redis
        self._worker_id = worker_id
        self._clock = clock
        self._own: dict[str, SessionInfo] = {}
        self._touched: set[str] = set()

    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        # Kept before they are written: what Redis does not take now, `flush` brings there later.
        self._own.update((s.session_id, s) for s in sessions if s.worker_id == self._worker_id)
        for group in _batches(sessions):
            async with self._redis.pipeline(transaction=False) as pipe:
                for session in group:
                    fields = chain.from_iterable(to_fields(session).items())
                    pipe.eval(CREATE_SCRIPT, 1, session_key(session.session_id), self._ttl_ms, *fields)
                self._index(pipe, group)
                await pipe.execute()

    async def get(self, session_id: str) -> SessionInfo | None:
        if (own := self._own.get(session_id)) is not None:
            return own
        return from_fields(await self._redis.hgetall(session_key(session_id)))

    def touch(self, session_id: str) -> None:
        self._touched.add(session_id)

    async def flush(self) -> None:
        touched, self._touched = self._touched, set()
        now = self._clock()
        for group in _batches([self._own[i] for i in touched if i in self._own]):
            seen = [msgspec.structs.replace(s, last_seen=now, state=SessionState.CONNECTED) for s in group]
            arguments = [self._ttl_ms, self._worker_id, now]
            results = await self._run_on_each([s.session_id for s in seen], TOUCH_SCRIPT, arguments, reindex=seen)
            lost = []
            for session, result in zip(seen, results, strict=True):
                if result == 2:
                    self._own.pop(session.session_id, None)
                elif session.session_id in self._own:
                    self._own[session.session_id] = session
                    if result == 0:
                        lost.append(session)
            if lost:
                logger.info("brought %d sessions back to Redis", len(lost))
                await self.create_many(lost)

    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        fields: list[str | bytes] = []
        for key, value in changes.items():
            fields += [METADATA_PREFIX + key, b"" if value is None else msgspec.json.encode(value)]
        if (own := self._own.get(session_id)) is not None:
            self._own[session_id] = msgspec.structs.replace(own, metadata=merged(own.metadata, changes))
        arguments = [self._worker_id, self._message(session_id), *fields]
        found = await self._redis.eval(METADATA_SCRIPT, 1, session_key(session_id), *arguments)
        return bool(found)

    async def update_channels(self, changes: Mapping[str, Mapping[str, bool]]) -> None:
        for session_id, channels in changes.items():
            if (own := self._own.get(session_id)) is not None:
                self._own[session_id] = msgspec.structs.replace(own, channels=resubscribed(own.channels, channels))
        for group in _batches(list(changes.items())):
            async with self._redis.pipeline(transaction=False) as pipe:
                for session_id, channels in group:
                    fields: list[Any] = []
                    for channel, member in channels.items():
                        fields += [CHANNEL_PREFIX + channel, "1" if member else ""]
                    pipe.eval(CHANNELS_SCRIPT, 1, session_key(session_id), self._worker_id, *fields)
                await pipe.execute()

    async def claim(self, claim: Claim) -> SessionInfo | None:
        key, now = session_key(claim.session_id), self._clock()
        secrets = [claim.user_id, claim.token, claim.new_token]
        where = (claim.worker_id, claim.node_id, now, self._ttl_ms, self._message(claim.session_id))
        answer = await self._redis.eval(CLAIM_SCRIPT, 1, key, *secrets, *where, claim.username)
        if not answer:
            return None
        owner, fields = answer
        session = from_fields(dict(zip(fields[::2], fields[1::2], strict=True)))
        if session is None:
            return None
        self._own[session.session_id] = session
        async with self._redis.pipeline(transaction=False) as pipe:
            if _text(owner) != self._worker_id:
                pipe.zrem(worker_sessions_key(_text(owner)), session.session_id)
            self._index(pipe, [session])
            await pipe.execute()
        return msgspec.structs.replace(session, came_from=_text(owner))

    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        own = [session for session in (self._own.pop(each, None) for each in session_ids) if session is not None]
        keep_ms = self._ttl_ms if keep_seconds is None else min(self._ttl_ms, int(keep_seconds * 1000))
        for group in _batches(session_ids):
            await self._run_on_each(group, DETACH_SCRIPT, [keep_ms, self._worker_id, self._clock()])
        if keep_seconds is not None:
            for sessions in _batches(own):
                await self._shorten(sessions, keep_ms / 1000)

    async def _shorten(self, sessions: Sequence[SessionInfo], keep_seconds: float) -> None:
        """Let the entries of sessions in all indexes end with them."""
        now = self._clock()
        async with self._redis.pipeline(transaction=False) as pipe:
            for session in sessions:
                for key in self._indexes(session.user_id, session.worker_id):
                    pipe.eval(SHORTEN_SCRIPT, 1, key, now, now + keep_seconds, session.session_id)
            await pipe.execute()

    async def delete_many(self, session_ids: Sequence[str]) -> None:
        for group in _batches(session_ids):
            own = [self._own.pop(session_id, None) for session_id in group]
            whose = [(s.user_id, s.worker_id) for s in own if s is not None]
            if len(whose) == len(group):
                async with self._redis.pipeline(transaction=False) as pipe:
                    pipe.delete(*map(session_key, group))
                    self._unindex(pipe, group, whose)
                    await pipe.execute()
                continue
            results = await self._run_on_each(group, DELETE_SCRIPT, [self._worker_id], with_message=True)
            async with self._redis.pipeline(transaction=False) as pipe:
                self._unindex(pipe, group, [(_text(user), _text(worker)) for user, worker in results])
                await pipe.execute()

    async def list_by_user(self, user_id: str) -> list[SessionInfo]:
        return [s for s in await self._read_index(user_sessions_key(user_id)) if s.user_id == user_id]

    async def list_by_worker(self, worker_id: str) -> list[SessionInfo]:
        return [s for s in await self._read_index(worker_sessions_key(worker_id)) if s.worker_id == worker_id]

    async def list_all(self, offset: int, limit: int) -> list[SessionInfo]:
        ids = await self._redis.zrevrangebyscore(SESSIONS_KEY, "+inf", self._clock(), start=offset, num=limit)
        return [session for group in _batches(ids) for session in await self._read(group)]

    async def count(self) -> int:
        return int(await self._redis.zcount(SESSIONS_KEY, self._clock(), "+inf"))

    async def refresh(self, session_id: str) -> SessionInfo | None:
        """Also None when the session has moved to another worker."""
        session = from_fields(await self._redis.hgetall(session_key(session_id)))
        if session is None or session.worker_id != self._worker_id:
            self._own.pop(session_id, None)
            return None
        if session_id in self._own:
            self._own[session_id] = session
        return session

    async def leave(self) -> None:
        await self._redis.srem(SESSION_WORKERS_KEY, self._worker_id)

    async def cleanup(self) -> int:
        token = secrets.token_hex(8)
        if not await self._redis.set(CLEANUP_KEY, token, nx=True, ex=CLEANUP_LEASE_SECONDS):
            return 0
        try:
            expired = await self._redis.zremrangebyscore(SESSIONS_KEY, "-inf", self._clock())
            dead = await self._dead_workers() if self._judges() else []
            return int(expired) + sum([await self._detach_all_of(worker) for worker in dead])
        finally:
            await self._redis.eval(RELEASE_SCRIPT, 1, CLEANUP_KEY, token)

    async def _dead_workers(self) -> list[str]:
        workers = [_text(member) for member in await self._redis.smembers(SESSION_WORKERS_KEY)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for worker in workers:
                pipe.exists(heartbeat_key(worker))
            alive = await pipe.execute()
        return [w for w, lives in zip(workers, alive, strict=True) if not lives and w != self._worker_id]

    async def _detach_all_of(self, worker_id: str) -> int:
        ids = [_text(member) for member in await self._redis.zrange(worker_sessions_key(worker_id), 0, -1)]
        detached = 0
        for group in _batches(ids):
            # When it was last seen stays as it was: its time runs from there, not from when we noticed.
            detached += sum(await self._run_on_each(group, DETACH_SCRIPT, [self._ttl_ms, worker_id, ""]))
        await self._redis.srem(SESSION_WORKERS_KEY, worker_id)
        if detached:
            logger.warning("%s is gone, detached its %d sessions", worker_id, detached)
        return detached

    async def _run_on_each(
        self,
        session_ids: Iterable[str],
        script: str,
        arguments: Sequence[Any],
        *,
        reindex: Sequence[SessionInfo] = (),
        with_message: bool = False,
    ) -> list[Any]:
        """One script for each of some sessions, in one round trip; their answers in order."""
        ids = list(session_ids)
        async with self._redis.pipeline(transaction=False) as pipe:
            for session_id in ids:
                more = [self._message(session_id)] if with_message else []
                pipe.eval(script, 1, session_key(session_id), *arguments, *more)
            self._index(pipe, reindex)
            results: list[Any] = await pipe.execute()
        return results[: len(ids)]

    async def _read_index(self, key: str) -> list[SessionInfo]:
        members = await self._redis.zrangebyscore(key, self._clock(), "+inf")
        found: list[SessionInfo] = []
        for group in _batches(members):
            found += await self._read(group)
        return oldest_first(found)

    async def _read(self, session_ids: Sequence[Any]) -> list[SessionInfo]:
        """Those that are there, in the order that they were asked for."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for session_id in session_ids:
                pipe.hgetall(session_key(_text(session_id)))
            return list(filter(None, map(from_fields, await pipe.execute())))

    def _index(self, pipe: Any, sessions: Sequence[SessionInfo]) -> None:
        """Enter sessions into all indexes, until a ttl from now; what has expired there goes."""
        if not sessions:
            return
        now = self._clock()
        entries: dict[str, list[str]] = {}
        for session in sessions:
            for key in self._indexes(session.user_id, session.worker_id):
                entries.setdefault(key, []).append(session.session_id)
        for key, ids in entries.items():
            if key == SESSIONS_KEY:  # for all workers: the cleanup takes away what has expired
                pipe.zadd(key, dict.fromkeys(ids, now + self.ttl))
            else:
                pipe.eval(INDEX_SCRIPT, 1, key, self._ttl_ms, now, now + self.ttl, *ids)
        pipe.sadd(SESSION_WORKERS_KEY, *{session.worker_id for session in sessions})

    def _unindex(self, pipe: Any, session_ids: Sequence[str], whose: Iterable[tuple[str, str]]) -> None:
        for key in {key for user, worker in whose for key in self._indexes(user, worker)}:
            pipe.zrem(key, *session_ids)

    @staticmethod
    def _indexes(user_id: str, worker_id: str) -> Iterator[str]:
        yield user_sessions_key(user_id)
        yield worker_sessions_key(worker_id)
        yield SESSIONS_KEY

    @staticmethod
    def _message(session_id: str) -> bytes:
        return UNNUMBERED + msgspec.json.encode(SessionChanged(session_id))

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl * 1000)


def to_fields(session: SessionInfo) -> dict[Any, Any]:
    fields: dict[Any, Any] = {
        "session_id": session.session_id,
        "user_id": session.user_id,
        "username": session.username,
        "node_id": session.node_id,
        "worker_id": session.worker_id,
        "connected_at": session.connected_at,
        "last_seen": session.last_seen,
        "state": session.state.value,
        "token": session.token,
        "last_token": session.last_token,
    }
    fields.update((CHANNEL_PREFIX + channel, "1") for channel in session.channels)
    for key, value in session.metadata.items():
        fields[METADATA_PREFIX + key] = msgspec.json.encode(value)
    return fields


def from_fields(fields: Mapping[Any, Any]) -> SessionInfo | None:
    """None for a key that is not there (an empty hash), and for what is no session."""
    named = {_text(name): value for name, value in fields.items()}
    try:
        return SessionInfo(
            session_id=_text(named["session_id"]),
            user_id=_text(named["user_id"]),
            username=_text(named["username"]),
            node_id=_text(named["node_id"]),
            worker_id=_text(named["worker_id"]),
            connected_at=float(named["connected_at"]),
            last_seen=float(named["last_seen"]),
            state=SessionState(_text(named["state"])),
            metadata={
                name.removeprefix(METADATA_PREFIX): msgspec.json.decode(value)
                for name, value in named.items()
                if name.startswith(METADATA_PREFIX)
            },
            channels=frozenset(n.removeprefix(CHANNEL_PREFIX) for n in named if n.startswith(CHANNEL_PREFIX)),
            token=_text(named.get("token")),
            last_token=_text(named.get("last_token")),
        )
    except (KeyError, ValueError):
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
