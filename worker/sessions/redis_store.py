"""Sessions in Redis: one hash for each session, which expires by itself, and sorted sets to find them.

No command looks at more than it must (no KEYS, no SCAN), and every command and script touches one key, so that the keys
may lie on different servers.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

import msgspec

from wsd.worker.broker.message_format import UNNUMBERED
from wsd.worker.contract.redis_keys import (
    CLEANUP_KEY,
    SESSION_WORKERS_KEY,
    heartbeat_key,
    session_key,
    worker_sessions_key,
)
from wsd.worker.hooks.redis_events import RedisEventLog
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors
from wsd.worker.sessions import redis_scripts as scripts
from wsd.worker.sessions.redis_fields import as_text, channel_fields, from_fields, metadata_fields, to_fields
from wsd.worker.sessions.redis_indexes import SessionIndexes
from wsd.worker.sessions.session_store import (
    Claim,
    Clock,
    Member,
    SessionChanged,
    SessionInfo,
    SessionState,
    SessionStore,
    oldest_first,
    with_channels,
    with_metadata,
)

logger = get_logger(__name__)

BATCH = 500
"""Sessions in one pipeline. Its reply has a few 100 KB."""

CLEANUP_LEASE_SECONDS = 30
"""How long one worker alone may clean up. The lease of a worker that died is taken from it before."""

T = TypeVar("T")


class RedisSessionStore(SessionStore):
    """The store of a worker with Redis.

    The worker's own sessions are in its memory, too, so that `get` of them asks nobody. The copy in Redis is for the
    other workers.
    """

    def __init__(
        self,
        redis: Redis,
        worker_id: str,
        ttl: float,
        clock: Clock = time.time,
        judges: Callable[[], bool] = lambda: True,
        events: RedisEventLog | None = None,
    ) -> None:
        """`judges`: whether a worker without a heartbeat may be taken for dead now, see `Roster`. `events`: what is
        written about sessions, for hooks and webhooks."""
        super().__init__(ttl)
        self._judges = judges
        self._redis = redis
        self._worker_id = worker_id
        self._lease_token = f"{worker_id}:{secrets.token_hex(8)}"
        self._clock = clock
        self._indexes = SessionIndexes(redis, ttl, clock)
        self._events = events or RedisEventLog(redis, ttl, 0)
        self._own: dict[str, SessionInfo] = {}
        self._touched: set[str] = set()

    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        # Kept before they are written: sessions that Redis does not take now, `flush` writes later.
        self._own.update((s.session_id, s) for s in sessions if s.worker_id == self._worker_id)
        for group in _batches(sessions):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for session in group:
                    self._events.opened(pipe, session.facts, session.channels)
                    fields = chain.from_iterable(to_fields(session).items())
                    pipe.eval(scripts.CREATE_SCRIPT, 1, session_key(session.session_id), self._ttl_ms, *fields)
                self._indexes.add(pipe, group)
                await pipe.execute()

    async def get(self, session_id: str) -> SessionInfo | None:
        if (own := self._own.get(session_id)) is not None:
            return own
        async with redis_errors():
            return from_fields(await self._redis.hgetall(session_key(session_id)))

    def touch(self, session_id: str) -> None:
        self._touched.add(session_id)

    async def flush(self) -> None:
        touched, self._touched = self._touched, set()
        now = self._clock()
        for group in _batches([self._own[i] for i in touched if i in self._own]):
            seen = [msgspec.structs.replace(s, last_seen=now, state=SessionState.CONNECTED) for s in group]
            arguments = [self._ttl_ms, self._worker_id, now]
            results = await self._run_on_each([s.session_id for s in seen], scripts.TOUCH_SCRIPT, arguments, index=seen)
            lost = []
            for session, result in zip(seen, results, strict=True):
                if result == 2:
                    self._own.pop(session.session_id, None)
                elif session.session_id in self._own:
                    self._own[session.session_id] = session
                    if result == 0:
                        lost.append(session)
            if lost:
                logger.info("wrote %d sessions again that Redis had lost", len(lost))
                await self.create_many(lost)

    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        arguments = [self._worker_id, _notice(session_id), *metadata_fields(changes)]
        if (own := self._own.get(session_id)) is not None:
            self._own[session_id] = with_metadata(own, changes)
        async with redis_errors():
            found = await self._redis.eval(scripts.METADATA_SCRIPT, 1, session_key(session_id), *arguments)
        return bool(found)

    async def update_channels(self, changes: Mapping[str, Mapping[str, Member]], worker_id: str = "") -> None:
        for session_id, channels in changes.items():
            if (own := self._own.get(session_id)) is not None:
                self._own[session_id] = with_channels(own, channels)
        for group in _batches(list(changes.items())):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for session_id, channels in group:
                    arguments = [worker_id or self._worker_id, *channel_fields(channels)]
                    pipe.eval(scripts.CHANNELS_SCRIPT, 1, session_key(session_id), *arguments)
                    self._events.moved(pipe, session_id, channels)
                await pipe.execute()

    async def claim(self, claim: Claim) -> SessionInfo | None:
        tokens = [claim.user_id, claim.token, claim.new_token]
        server = (claim.worker_id, claim.node_id, self._clock(), self._ttl_ms, _notice(claim.session_id))
        arguments: list[Any] = [*tokens, *server, claim.username]
        async with redis_errors():
            answer = await self._redis.eval(scripts.CLAIM_SCRIPT, 1, session_key(claim.session_id), *arguments)
            if not answer:
                return None
            previous_worker, fields = as_text(answer[0]), answer[1]
            session = from_fields(dict(zip(fields[::2], fields[1::2], strict=True)))
            if session is None:
                return None
            self._own[session.session_id] = session
            async with self._redis.pipeline(transaction=False) as pipe:
                if previous_worker != self._worker_id:
                    pipe.zrem(worker_sessions_key(previous_worker), session.session_id)
                self._indexes.add(pipe, [session])
                self._events.opened(pipe, session.facts, session.channels, told=False)
                await pipe.execute()
        return msgspec.structs.replace(session, previous_worker=previous_worker)

    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        own = [session for session in (self._own.pop(each, None) for each in session_ids) if session is not None]
        keep_ms = self._ttl_ms if keep_seconds is None else min(self._ttl_ms, int(keep_seconds * 1000))
        for group in _batches(session_ids):
            await self._run_on_each(group, scripts.DETACH_SCRIPT, [keep_ms, self._worker_id, self._clock()])
        if keep_seconds is not None:
            for sessions in _batches(own):
                async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                    self._indexes.shorten(pipe, sessions, keep_ms / 1000)
                    self._events.shortened(pipe, [session.session_id for session in sessions], keep_ms / 1000)
                    await pipe.execute()

    async def delete_many(self, session_ids: Sequence[str]) -> None:
        for group in _batches(session_ids):
            own = [self._own.pop(session_id, None) for session_id in group]
            owners = [(s.user_id, s.worker_id) for s in own if s is not None]
            if len(owners) == len(group):
                async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                    pipe.delete(*map(session_key, group))
                    self._indexes.remove(pipe, group, owners)
                    self._events.ended(pipe, group)
                    await pipe.execute()
                continue
            results = await self._run_on_each(group, scripts.DELETE_SCRIPT, [self._worker_id], notify=True)
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                self._indexes.remove(pipe, group, [(as_text(user), as_text(worker)) for user, worker in results])
                self._events.ended(pipe, group)
                await pipe.execute()

    async def list_by_user(self, user_id: str) -> list[SessionInfo]:
        async with redis_errors():
            sessions = await self._read(await self._indexes.ids_of_user(user_id))
        return oldest_first(session for session in sessions if session.user_id == user_id)

    async def list_by_worker(self, worker_id: str) -> list[SessionInfo]:
        async with redis_errors():
            sessions = await self._read(await self._indexes.ids_of_worker(worker_id))
        return oldest_first(session for session in sessions if session.worker_id == worker_id)

    async def list_all(self, offset: int, limit: int) -> list[SessionInfo]:
        async with redis_errors():
            return await self._read(await self._indexes.page(offset, limit))

    async def count(self) -> int:
        async with redis_errors():
            return await self._indexes.count()

    async def refresh(self, session_id: str) -> SessionInfo | None:
        async with redis_errors():
            session = from_fields(await self._redis.hgetall(session_key(session_id)))
        if session is None or session.worker_id != self._worker_id:
            self._own.pop(session_id, None)
            return None
        if session_id in self._own:
            self._own[session_id] = session
        return session

    async def leave(self) -> None:
        async with redis_errors():
            await self._redis.srem(SESSION_WORKERS_KEY, self._worker_id)

    async def cleanup(self) -> int:
        async with redis_errors():
            if not await self._take_cleanup_lease():
                return 0
            try:
                expired = await self._indexes.drop_expired()
                await self._events.end_expired()
                dead = await self._dead_workers() if self._judges() else []
                return expired + sum([await self._detach_all_of(worker) for worker in dead])
            finally:
                await self._redis.eval(scripts.RELEASE_SCRIPT, 1, CLEANUP_KEY, self._lease_token)

    async def _take_cleanup_lease(self) -> bool:
        """Take the lease of the cleanup, also from a worker that was killed while it had it."""
        for _ in range(2):
            if await self._redis.set(CLEANUP_KEY, self._lease_token, nx=True, ex=CLEANUP_LEASE_SECONDS):
                return True
            token = as_text(await self._redis.get(CLEANUP_KEY) or b"")
            holder = token.rpartition(":")[0]
            if token == self._lease_token or not self._judges():
                return False
            # A predecessor of this worker with the same id is dead, although its id has a heartbeat.
            if holder != self._worker_id and await self._redis.exists(heartbeat_key(holder)):
                return False
            await self._redis.eval(scripts.RELEASE_SCRIPT, 1, CLEANUP_KEY, token)
        return False

    async def _dead_workers(self) -> list[str]:
        workers = [as_text(member) for member in await self._redis.smembers(SESSION_WORKERS_KEY)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for worker in workers:
                pipe.exists(heartbeat_key(worker))
            alive = await pipe.execute()
        return [w for w, lives in zip(workers, alive, strict=True) if not lives and w != self._worker_id]

    async def _detach_all_of(self, worker_id: str) -> int:
        """Detach the sessions of a worker that died. Return how many there were."""
        detached = 0
        for group in _batches(await self._indexes.all_ids_of_worker(worker_id)):
            # `last_seen` stays as it was: the time of a session runs from there, not from now.
            detached += sum(await self._run_on_each(group, scripts.DETACH_SCRIPT, [self._ttl_ms, worker_id, ""]))
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
        index: Sequence[SessionInfo] = (),
        notify: bool = False,
    ) -> list[Any]:
        """Run a script for each of some sessions, in one round trip. Return the answers in order.

        `index`: sessions whose index entries are written with it. `notify`: whether the script takes the notice for the
        session's worker as its last argument.
        """
        ids = list(session_ids)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for session_id in ids:
                more = [_notice(session_id)] if notify else []
                pipe.eval(script, 1, session_key(session_id), *arguments, *more)
            self._indexes.add(pipe, index)
            results: list[Any] = await pipe.execute()
        return results[: len(ids)]

    async def _read(self, session_ids: Sequence[str]) -> list[SessionInfo]:
        """Read sessions, in the order of their ids. Sessions that are gone are left out."""
        found: list[SessionInfo] = []
        for group in _batches(session_ids):
            async with self._redis.pipeline(transaction=False) as pipe:
                for session_id in group:
                    pipe.hgetall(session_key(session_id))
                found += filter(None, map(from_fields, await pipe.execute()))
        return found

    @property
    def _ttl_ms(self) -> int:
        return int(self.ttl * 1000)


def _notice(session_id: str) -> bytes:
    """Encode the notice that a session was changed or deleted, for the worker that serves it."""
    return UNNUMBERED + msgspec.json.encode(SessionChanged(session_id))


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
