"""What became of connections, in Redis, for a while after their end: a list of flights for each session."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from wsd.worker.contract.redis_keys import trace_key, user_traces_key
from wsd.worker.delivery.flight_recorder import Flight
from wsd.worker.redis_client import Redis
from wsd.worker.security.limits import TokenBucket

MAX_FLIGHTS = 20
"""Connections of a session, and sessions of a user, that are kept: the last."""

FLIGHTS_PER_SECOND, FLIGHT_BURST = 5.0, 5_000
"""Of a worker: each takes about 550 bytes of Redis for an hour, and those of clients that come and go all the time must
not crowd out messages. A deploy that closes thousands at once is within."""

BATCH = 500

# KEYS list; ARGV how many to keep, ttl in ms, then flights.
APPEND_SCRIPT = """
redis.call('RPUSH', KEYS[1], unpack(ARGV, 3))
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS sorted set; ARGV how many to keep, ttl in ms, then time and session id, again and again.
INDEX_SCRIPT = """
redis.call('ZADD', KEYS[1], unpack(ARGV, 3))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[1] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

_flights = msgspec.json.Decoder(Flight)


class Traces:
    """Without a Redis, or with a ttl of 0 seconds, nothing is kept."""

    def __init__(self, redis: Redis | None, ttl: float) -> None:
        self._redis = redis if ttl else None
        self._ttl_ms = int(ttl * 1000)
        self._bucket = TokenBucket(FLIGHTS_PER_SECOND, FLIGHT_BURST, time.monotonic())

    def takes_one(self) -> bool:
        """Whether there is room for a flight, which is to be written then."""
        return self._redis is not None and self._bucket.take(time.monotonic())

    async def write(self, flights: Sequence[Flight]) -> None:
        """Raises RedisError or OSError."""
        if self._redis is None:
            return
        for start in range(0, len(flights), BATCH):
            group = flights[start : start + BATCH]
            async with self._redis.pipeline(transaction=False) as pipe:
                for key, entries in _grouped((trace_key(f.session_id), [msgspec.json.encode(f)]) for f in group):
                    pipe.eval(APPEND_SCRIPT, 1, key, MAX_FLIGHTS, self._ttl_ms, *entries)
                users = ((user_traces_key(f.user_id), [f.events[-1][0], f.session_id]) for f in group)
                for key, entries in _grouped(users):
                    pipe.eval(INDEX_SCRIPT, 1, key, MAX_FLIGHTS, self._ttl_ms, *entries)
                await pipe.execute()

    async def of_session(self, session_id: str) -> list[Flight]:
        """Its connections that have ended, the first of them first. Raises RedisError or OSError."""
        if self._redis is None:
            return []
        return [_flights.decode(entry) for entry in await self._redis.lrange(trace_key(session_id), 0, -1)]

    async def sessions_of(self, user_id: str) -> list[str]:
        """Ids of the sessions whose connections ended last, the newest first. Raises RedisError or OSError."""
        if self._redis is None:
            return []
        members: Any = await self._redis.zrevrange(user_traces_key(user_id), 0, -1)
        return [member.decode() for member in members]


def _grouped(pairs: Iterator[tuple[str, list[Any]]]) -> list[tuple[str, list[Any]]]:
    """One entry a key."""
    groups: dict[str, list[Any]] = {}
    for key, entries in pairs:
        groups.setdefault(key, []).extend(entries)
    return list(groups.items())
