"""Records of why connections ended, kept in Redis for a while after the end: a list for each session."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from wsd.worker.contract.redis_keys import trace_key, user_traces_key
from wsd.worker.delivery.connection_record import ConnectionRecord
from wsd.worker.redis_client import Redis, redis_errors
from wsd.worker.security.limits import TokenBucket

MAX_RECORDS = 20
"""Records kept of each session, and sessions kept of each user. The newest stay."""

RECORDS_PER_SECOND, RECORD_BURST = 5.0, 5_000
"""Records that a worker may write. Each takes about 550 bytes of Redis for an hour, and the records of clients that
come and go all the time must not crowd out messages. A deploy that closes thousands of connections at once is within
these limits."""

BATCH = 500
"""Records written at once."""

APPEND_SCRIPT = """
redis.call('RPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Append records. KEYS: list. ARGV: how many to keep, ttl in ms, then records."""

INDEX_SCRIPT = """
redis.call('ZADD', KEYS[1], unpack(ARGV, 3))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[1] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Enter sessions with their user. KEYS: sorted set. ARGV: how many to keep, ttl in ms, then times and session ids."""

_decoder = msgspec.json.Decoder(ConnectionRecord)


class EndedConnections:
    """The records of connections that have ended, on whatever worker.

    Methods that ask Redis raise RedisUnavailableError. Without Redis, or with a ttl of 0, nothing is kept.
    """

    def __init__(self, redis: Redis | None, ttl: float) -> None:
        """`ttl`: seconds after which the records of a session are forgotten, unless a new one is added."""
        self._redis = redis if ttl else None
        self._ttl_ms = int(ttl * 1000)
        self._bucket = TokenBucket(RECORDS_PER_SECOND, RECORD_BURST, time.monotonic())

    def takes_one(self) -> bool:
        """Tell whether one more record may be written now, and count it."""
        return self._redis is not None and self._bucket.take(time.monotonic())

    async def write(self, records: Sequence[ConnectionRecord]) -> None:
        if self._redis is None:
            return
        for start in range(0, len(records), BATCH):
            group = records[start : start + BATCH]
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for key, entries in _grouped((trace_key(f.session_id), [msgspec.json.encode(f)]) for f in group):
                    pipe.eval(APPEND_SCRIPT, 1, key, MAX_RECORDS, self._ttl_ms, *entries)
                users = ((user_traces_key(f.user_id), [f.events[-1][0], f.session_id]) for f in group)
                for key, entries in _grouped(users):
                    pipe.eval(INDEX_SCRIPT, 1, key, MAX_RECORDS, self._ttl_ms, *entries)
                await pipe.execute()

    async def of_session(self, session_id: str) -> list[ConnectionRecord]:
        """Return the records of a session's connections, the oldest first."""
        if self._redis is None:
            return []
        async with redis_errors():
            return [_decoder.decode(entry) for entry in await self._redis.lrange(trace_key(session_id), 0, -1)]

    async def sessions_of(self, user_id: str) -> list[str]:
        """Return the ids of the user's sessions that have records, the one whose connection ended last first."""
        if self._redis is None:
            return []
        async with redis_errors():
            members: Any = await self._redis.zrevrange(user_traces_key(user_id), 0, -1)
        return [member.decode() for member in members]


def _grouped(pairs: Iterator[tuple[str, list[Any]]]) -> list[tuple[str, list[Any]]]:
    """Join the values of pairs with the same key."""
    groups: dict[str, list[Any]] = {}
    for key, entries in pairs:
        groups.setdefault(key, []).extend(entries)
    return list(groups.items())
