"""Sorted sets by which sessions in Redis are found: by user, by worker, and all of them by when they were last seen.

An entry may outlive its session, for instance when the session was deleted while its indexes could not be written. So
an entry is never believed: the session itself is always read. The score of an entry is when the entry expires.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wsd.worker.contract.redis_keys import SESSION_WORKERS_KEY, SESSIONS_KEY, user_sessions_key, worker_sessions_key
from wsd.worker.redis_client import Redis
from wsd.worker.sessions.redis_fields import as_text
from wsd.worker.sessions.redis_scripts import INDEX_SCRIPT, SHORTEN_SCRIPT
from wsd.worker.sessions.session_store import Clock, SessionInfo


class SessionIndexes:
    """The indexes of all sessions. Methods that take a pipeline only add commands to it."""

    def __init__(self, redis: Redis, ttl: float, clock: Clock) -> None:
        """`ttl`: seconds after which an entry expires."""
        self._redis = redis
        self._ttl = ttl
        self._clock = clock

    def add(self, pipe: Any, sessions: Sequence[SessionInfo]) -> None:
        """Enter sessions into all indexes, or keep their entries alive, and remove expired entries of the same user."""
        if not sessions:
            return
        now = self._clock()
        ttl_ms = int(self._ttl * 1000)
        entries: dict[str, list[str]] = {}
        for session in sessions:
            for key in _keys(session.user_id, session.worker_id):
                entries.setdefault(key, []).append(session.session_id)
        for key, ids in entries.items():
            if key == SESSIONS_KEY:  # shared by all workers: the cleanup removes expired entries
                pipe.zadd(key, dict.fromkeys(ids, now + self._ttl))
            else:
                pipe.eval(INDEX_SCRIPT, 1, key, ttl_ms, now, now + self._ttl, *ids)
        pipe.sadd(SESSION_WORKERS_KEY, *{session.worker_id for session in sessions})

    def remove(self, pipe: Any, session_ids: Sequence[str], owners: Iterable[tuple[str, str]]) -> None:
        """Remove sessions from the indexes of their owners, each a user id and a worker id."""
        for key in {key for user_id, worker_id in owners for key in _keys(user_id, worker_id)}:
            pipe.zrem(key, *session_ids)

    def shorten(self, pipe: Any, sessions: Iterable[SessionInfo], keep_seconds: float) -> None:
        """Let the entries of sessions expire in `keep_seconds`."""
        now = self._clock()
        for session in sessions:
            for key in _keys(session.user_id, session.worker_id):
                pipe.eval(SHORTEN_SCRIPT, 1, key, now, now + keep_seconds, session.session_id)

    async def ids_of_user(self, user_id: str) -> list[str]:
        return await self._live_ids(user_sessions_key(user_id))

    async def ids_of_worker(self, worker_id: str) -> list[str]:
        return await self._live_ids(worker_sessions_key(worker_id))

    async def all_ids_of_worker(self, worker_id: str) -> list[str]:
        """Return the ids of a worker's sessions, those of expired entries included."""
        return [as_text(member) for member in await self._redis.zrange(worker_sessions_key(worker_id), 0, -1)]

    async def page(self, offset: int, limit: int) -> list[str]:
        """Return the ids of a part of all sessions, the last seen first."""
        found = await self._redis.zrevrangebyscore(SESSIONS_KEY, "+inf", self._clock(), start=offset, num=limit)
        return [as_text(member) for member in found]

    async def count(self) -> int:
        return int(await self._redis.zcount(SESSIONS_KEY, self._clock(), "+inf"))

    async def drop_expired(self) -> int:
        """Remove expired entries of the index of all sessions. Return how many there were."""
        return int(await self._redis.zremrangebyscore(SESSIONS_KEY, "-inf", self._clock()))

    async def _live_ids(self, key: str) -> list[str]:
        return [as_text(member) for member in await self._redis.zrangebyscore(key, self._clock(), "+inf")]


def _keys(user_id: str, worker_id: str) -> Iterator[str]:
    yield user_sessions_key(user_id)
    yield worker_sessions_key(worker_id)
    yield SESSIONS_KEY
