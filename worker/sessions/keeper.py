"""Keeps the sessions of this worker's connections in the store: batched, and whatever Redis does meanwhile.

What comes while a write is under way goes out together in the next one: a thousand clients that connect at once, or
are sent away by a drain, cost a few round trips. Nothing here fails because Redis is away: what could not be written is
written when it is back.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile

from wsd.worker.containment import report, run_repeatedly
from wsd.worker.contract.events import EVENT
from wsd.worker.delivery.flight_recorder import Flight
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import RedisError
from wsd.worker.sessions.session_store import SessionInfo, SessionStore
from wsd.worker.sessions.trace_store import Traces
from wsd.worker.waiting import raise_if_cancelled

logger = get_logger(__name__)

MAX_UNWRITTEN = 100_000
"""Ended sessions that wait for Redis; those beyond it expire there by themselves."""

MAX_UNWRITTEN_FLIGHTS = 10_000

EARLY_SECONDS = 10.0
"""A client that leaves a new session without a goodbye before this time has left early."""

EARLY_KEEP_SECONDS = 30.0
"""How long the session of such a client is kept."""

RETRY_SECONDS = 2.0
"""How often a store that failed is tried again."""


@dataclass
class _Unwritten:
    opened: dict[str, SessionInfo] = field(default_factory=dict)
    detached: set[str] = field(default_factory=set)
    left_early: set[str] = field(default_factory=set)  # detached, and kept for a moment only
    deleted: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    channels: dict[str, dict[str, bool]] = field(default_factory=dict)
    flights: list[Flight] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)  # sessions that could not be written, whatever Redis does
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def __bool__(self) -> bool:
        sets = (self.opened, self.detached, self.left_early, self.deleted, self.changed, self.channels, self.flights)
        return any(sets)

    def by_session(self) -> "dict[str, _Unwritten]":
        parts: defaultdict[str, _Unwritten] = defaultdict(_Unwritten)
        for session_id, session in self.opened.items():
            parts[session_id].opened[session_id] = session
        for session_id, channels in self.channels.items():
            parts[session_id].channels[session_id] = channels
        for name in ("detached", "left_early", "deleted", "changed"):
            for session_id in getattr(self, name):
                getattr(parts[session_id], name).add(session_id)
        for flight in self.flights:
            parts[flight.session_id].flights.append(flight)
        return parts


class SessionKeeper:
    """`run` must run. `healthy` says whether the store answered last."""

    def __init__(
        self,
        store: SessionStore,
        traces: Traces,
        *,
        interval: float,
        timeout: float,
        on_ended: Callable[[str], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """`interval`: seconds between rounds of touch and cleanup; `timeout`: how long `open` may wait;
        `on_ended` is called with the id of a session that another worker ended, `on_failed` with the id of one that
        cannot be written, whatever Redis does."""
        self.store = store
        self.traces = traces
        self.healthy = True
        self._on_ended = on_ended
        self._on_failed = on_failed
        self._interval = interval
        self._timeout = timeout
        self._connected: set[str] = set()
        self._opened_at: dict[str, float] = {}  # of those that are younger than EARLY_SECONDS, by the monotonic clock
        self._unwritten = _Unwritten()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()

    async def open(self, session: SessionInfo) -> None:
        """Store a session before its client is told of it. Raises ValueError for one that no store can hold."""
        now = time.monotonic()
        for session_id in [*takewhile(lambda old: self._opened_at[old] < now - EARLY_SECONDS, self._opened_at)]:
            del self._opened_at[session_id]
        self._opened_at[session.session_id] = now
        self._connected.add(session.session_id)
        batch = self._unwritten
        batch.opened[session.session_id] = session
        await self._written()
        if session.session_id in batch.failed:
            raise ValueError(f"the session of {session.user_id!r} cannot be stored")

    async def subscribed(self, session_id: str, channel: str, *, member: bool) -> None:
        """Note that it joined a channel, or left it, before its client is told, so that no crash forgets it."""
        self._unwritten.channels.setdefault(session_id, {})[channel] = member
        await self._written()

    async def _written(self) -> None:
        """Wait until what is noted is in the store; where Redis is away, `run` will see to it."""
        batch = self._unwritten
        self._wake.set()
        if not self.healthy:
            return  # nobody waits for a Redis that is known to be away
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await batch.written.wait()

    def adopt(self, session_id: str) -> None:
        """A session that the store has given to this worker: its client came back."""
        self._connected.add(session_id)
        self._opened_at.pop(session_id, None)
        self._unwritten.detached.discard(session_id)
        self._unwritten.left_early.discard(session_id)
        self._unwritten.deleted.discard(session_id)

    def close(self, session_id: str, *, goodbye: bool, sent_away: bool = False) -> None:
        """Its connection ended: with a goodbye the session ends, too, otherwise its client may come back to it.

        `sent_away`: the server ended it, and asked the client to come back. A client that leaves by itself a moment
        after it came has less time to come back: such clients must not fill Redis with sessions.
        """
        self._connected.discard(session_id)
        opened_at = self._opened_at.pop(session_id, None)
        left_early = opened_at is not None and time.monotonic() - opened_at < EARLY_SECONDS and not sent_away
        if goodbye:
            ended = self._unwritten.deleted
        else:
            ended = self._unwritten.left_early if left_early else self._unwritten.detached
        if len(ended) < MAX_UNWRITTEN:
            ended.add(session_id)
        self._wake.set()

    def flown(self, flight: Flight) -> None:
        """Keep what became of a connection, for a while."""
        if len(self._unwritten.flights) < MAX_UNWRITTEN_FLIGHTS:
            self._unwritten.flights.append(flight)
            self._wake.set()

    def changed(self, session_id: str) -> None:
        """Another worker changed one of our sessions."""
        self._unwritten.changed.add(session_id)
        self._wake.set()

    def hurry(self) -> None:
        """The store is back: write now what it missed."""
        self._hurry.set()

    async def run(self) -> None:
        """Write and keep alive until cancelled; then write what is left, as far as Redis answers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_repeatedly(self._write_for_ever, "session writer"), name="session-writer")
                tasks.create_task(run_repeatedly(self._keep_alive, "session keep-alive"), name="session-keep-alive")
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._write()
                    await self._leave()

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write()
            raise_if_cancelled()

    async def _write(self) -> None:
        batch, self._unwritten = self._unwritten, _Unwritten()
        if not batch:
            return
        try:
            await self._write_batch(batch)
        except (RedisError, OSError) as exc:
            self._failed(exc)
            self._put_back(batch)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report("session writer: a batch", exc)
            await self._write_one_by_one(batch)
        else:
            self._succeeded()
        finally:
            batch.written.set()

    async def _write_batch(self, batch: _Unwritten) -> None:
        """Raises RedisError or OSError."""
        await self.store.create_many(list(batch.opened.values()))
        await self.store.update_channels(batch.channels)
        await self.store.detach_many(list(batch.detached))
        await self.store.detach_many(list(batch.left_early), keep_seconds=EARLY_KEEP_SECONDS)
        await self.store.delete_many(list(batch.deleted))
        await self.traces.write(batch.flights)
        for session_id in batch.changed:
            if await self.store.refresh(session_id) is None and session_id in self._connected:
                self._on_ended(session_id)

    def _put_back(self, batch: _Unwritten) -> None:
        """Keep what could not be written. Sessions that were opened are in the store's own memory: `flush` brings them
        to Redis."""
        self._unwritten.detached |= batch.detached
        self._unwritten.left_early |= batch.left_early
        self._unwritten.deleted |= batch.deleted
        self._unwritten.changed |= batch.changed
        self._unwritten.flights[:0] = batch.flights
        for session_id, channels in batch.channels.items():
            self._unwritten.channels[session_id] = {**channels, **self._unwritten.channels.get(session_id, {})}

    async def _write_one_by_one(self, batch: _Unwritten) -> None:
        """Write a batch that raised in parts of one session each, so that only the one that cannot be written fails."""
        for session_id, part in batch.by_session().items():
            try:
                await self._write_batch(part)
            except (RedisError, OSError) as exc:
                self._failed(exc)
                self._put_back(part)
            except Exception as exc:  # noqa: BLE001 - of whatever kind
                report("session writer: a session", exc)
                batch.failed.add(session_id)
                self._on_failed(session_id)

    async def _leave(self) -> None:
        if self.healthy and not self._connected:
            with suppress(RedisError, OSError):  # the next cleanup finds nothing to do for us, that is all
                await self.store.leave()

    async def _keep_alive(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval if self.healthy else min(self._interval, RETRY_SECONDS)):
                    await self._hurry.wait()
            self._hurry.clear()
            for session_id in self._connected:
                self.store.touch(session_id)
            try:
                await self.store.flush()
                await self.store.cleanup()
            except (RedisError, OSError) as exc:
                self._failed(exc)
            else:
                self._succeeded()
                self._wake.set()
            raise_if_cancelled()

    def _failed(self, exc: Exception) -> None:
        if self.healthy:
            logger.warning("sessions cannot be written, they are kept here meanwhile: %s", exc)
        self.healthy = False

    def _succeeded(self) -> None:
        if not self.healthy:
            logger.info("sessions are written again", extra=EVENT)
        self.healthy = True
