"""The events of sessions in Redis.

A session and its register are different keys, which may lie on different servers. The register is written before the
session is stored, and ends after the session was deleted. If a worker dies in between, or if the session expires, the
next cleanup finds a register without a session (`unregistered`), and ends it.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from wsd.worker.contract.redis_keys import (
    EVENT_SESSIONS_KEY,
    dropped_events_key,
    event_session_key,
    events_key,
    events_lease_key,
    session_key,
)
from wsd.worker.hooks import redis_event_scripts as scripts
from wsd.worker.hooks.event_queue import READERS, Entry, EventQueue, ReaderName, Waiting, Wanted
from wsd.worker.hooks.records import SessionFacts, event_of
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors

logger = get_logger(__name__)

KEEP_SECONDS = 7 * 86_400
"""How long registers and events are kept while no worker touches them: when nobody wants events any more, for example.
A register also outlives its session by this time at least."""

LEASE_SECONDS = 10.0
"""How long a reader's lease holds. When a worker dies, another one goes on after this time."""

LOOK_AT = 500
"""Registers that one cleanup looks at in one round trip."""


class RedisEventLog:
    """The events of all workers. Methods that take a pipeline only add commands to it."""

    def __init__(
        self, redis: Redis, session_ttl: float, max_waiting: int, clock: Callable[[], float] = time.time
    ) -> None:
        """`max_waiting`: events that may wait for one reader. Beyond it, the oldest are dropped."""
        self.wanted = Wanted()
        self._redis = redis
        self._ttl = session_ttl
        self._max_waiting = max_waiting
        self._clock = clock

    def queue(self, reader: ReaderName) -> EventQueue:
        """Return the queue of a reader, for this worker."""
        return RedisEventQueue(self._redis, reader)

    def opened(self, pipe: Any, facts: SessionFacts, channels: Iterable[str], *, told: bool = True) -> None:
        """Note that a session will be stored. Does nothing if that is noted already.

        `told`: False for a session that was stored before, perhaps by workers that wrote no events. It then gets no
        event but its last.
        """
        if self.wanted:
            more = (msgspec.json.encode(facts), self._clock() + self._ttl, "1" if told else "", *channels)
            self._eval(pipe, scripts.OPENED_SCRIPT, facts.session_id, *more)

    def moved(self, pipe: Any, session_id: str, changes: Mapping[str, object]) -> None:
        """Note which channels a session has entered (a true value) and left."""
        if self.wanted:
            pairs = (text for channel, member in changes.items() for text in (channel, "1" if member else ""))
            self._eval(pipe, scripts.MOVED_SCRIPT, session_id, *pairs)

    def shortened(self, pipe: Any, session_ids: Iterable[str], keep_seconds: float) -> None:
        """Note that sessions expire in `keep_seconds` unless they are resumed."""
        if self.wanted:
            for session_id in session_ids:
                pipe.zadd(EVENT_SESSIONS_KEY, {session_id: self._clock() + keep_seconds}, xx=True)

    def ended(self, pipe: Any, session_ids: Iterable[str]) -> None:
        """Note that sessions are no longer stored. Does nothing where that is noted already."""
        if self.wanted:
            for session_id in session_ids:
                self._eval(pipe, scripts.ENDED_SCRIPT, session_id)

    async def end_expired(self) -> int:
        """Note which sessions have expired since. Return how many.

        Raises RedisUnavailableError.
        """
        ended = 0
        while self.wanted:
            async with redis_errors():
                now = self._clock()
                due: Any = await self._redis.zrangebyscore(EVENT_SESSIONS_KEY, "-inf", now, start=0, num=LOOK_AT)
                ids = [session_id.decode() for session_id in due]
                async with self._redis.pipeline(transaction=False) as pipe:
                    for session_id in ids:
                        pipe.pttl(session_key(session_id))
                    left_ms = await pipe.execute()
                gone = [session_id for session_id, ms in zip(ids, left_ms, strict=True) if ms == -2]
                async with self._redis.pipeline(transaction=False) as pipe:
                    self.ended(pipe, gone)
                    for session_id, ms in zip(ids, left_ms, strict=True):
                        if ms != -2:
                            left = ms / 1000 if ms >= 0 else self._ttl
                            self._eval(pipe, scripts.LOOK_AGAIN_SCRIPT, session_id, now + left)
                    await pipe.execute()
            ended += len(gone)
            if len(ids) < LOOK_AT:
                break
        return ended

    def _eval(self, pipe: Any, script: str, session_id: str, *more: Any) -> None:
        keys = [EVENT_SESSIONS_KEY, event_session_key(session_id)]
        for reader in READERS:
            keys += [events_key(reader), dropped_events_key(reader)]
        wanted = [f" {' '.join(kinds)} " for kinds in (self.wanted.functions, self.wanted.webhooks)]
        keep_ms = int((KEEP_SECONDS + 2 * self._ttl) * 1000)
        pipe.eval(script, len(keys), *keys, *wanted, self._max_waiting, self._clock(), keep_ms, session_id, *more)


class RedisEventQueue(EventQueue):
    """The queue of a reader: a stream, in the order in which Redis got the events."""

    def __init__(self, redis: Redis, reader: ReaderName) -> None:
        self._redis = redis
        self._stream = events_key(reader)
        self._dropped = dropped_events_key(reader)
        self._lease = events_lease_key(reader)
        self._token = secrets.token_hex(8)

    async def take(self) -> bool:
        async with redis_errors():
            return bool(await self._redis.set(self._lease, self._token, nx=True, px=int(LEASE_SECONDS * 1000)))

    async def renew(self) -> bool:
        async with redis_errors():
            arguments = (self._lease, self._token, int(LEASE_SECONDS * 1000))
            return bool(await self._redis.eval(scripts.RENEW_LEASE_SCRIPT, 1, *arguments))

    async def release(self) -> None:
        async with redis_errors():
            await self._redis.eval(scripts.RELEASE_LEASE_SCRIPT, 1, self._lease, self._token)

    async def read(self, limit: int) -> list[Entry]:
        async with redis_errors():
            found: Any = await self._redis.xrange(self._stream, count=limit)
        entries = []
        for entry_id, fields in found:
            try:
                entries.append(_entry(entry_id.decode(), fields))
            except (KeyError, ValueError) as exc:
                logger.warning("an entry of %s is no event and is removed: %s", self._stream, exc)
                async with redis_errors():
                    await self._redis.xdel(self._stream, entry_id)
        return entries

    async def remove(self, entries: Sequence[Entry]) -> None:
        async with redis_errors():
            await self._redis.xdel(self._stream, *(entry.entry_id for entry in entries))

    async def waiting(self) -> Waiting:
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.xlen(self._stream)
            pipe.xrange(self._stream, count=1)
            pipe.get(self._dropped)
            count, first, dropped = await pipe.execute()
        oldest_at = None
        if first:
            with suppress(KeyError, ValueError):  # `read` removes what is no event
                oldest_at = float(first[0][1][b"at"])
        return Waiting(count, oldest_at, int(dropped or 0))


def _entry(entry_id: str, fields: Mapping[bytes, bytes]) -> Entry:
    facts = msgspec.json.decode(fields[b"facts"], type=SessionFacts)
    channels = msgspec.json.decode(fields[b"channels"], type=tuple[str, ...])
    return Entry(entry_id, event_of(fields[b"type"].decode(), entry_id, float(fields[b"at"]), facts, channels))
