"""Keeping the sessions of this worker's connections in the store: in batches, and through outages of Redis.

Changes that come while a write is under way go out together in the next one: a thousand clients that connect at once,
or are sent away by a drain, cost a few round trips. Nothing here fails because Redis is away: changes that could not be
written are written when it is back.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Self

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.background.waiting import raise_if_cancelled, wait_at_most
from wsd.worker.background.write_behind import Batch, WriteBehind
from wsd.worker.contract.events import EVENT
from wsd.worker.delivery.connection_record import ConnectionRecord
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.session_store import Member, SessionInfo, SessionStore

logger = get_logger(__name__)

MAX_UNWRITTEN = 100_000
"""Ended sessions that wait for Redis. Sessions beyond this number expire in Redis by themselves."""

MAX_UNWRITTEN_RECORDS = 10_000
"""Records of ended connections that wait for Redis. Further ones are dropped."""

EARLY_SECONDS = 10.0
"""A client that leaves a new session without a clean close before this time has left early."""

EARLY_KEEP_SECONDS = 30.0
"""How long the session of a client that left early is kept."""

RETRY_SECONDS = 2.0
"""How often a store that failed is tried again."""


@dataclass
class _Changes(Batch):
    """Changes of sessions that are not in the store yet."""

    opened: dict[str, SessionInfo] = field(default_factory=dict)
    detached: set[str] = field(default_factory=set)
    left_early: set[str] = field(default_factory=set)  # detached, and kept for a moment only
    deleted: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)  # by another worker: to be read again
    channels: dict[str, dict[str, Member]] = field(default_factory=dict)
    records: list[ConnectionRecord] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)  # sessions that no store can hold; shared by all parts of a batch

    def __bool__(self) -> bool:
        sets = (self.opened, self.detached, self.left_early, self.deleted, self.changed, self.channels, self.records)
        return any(sets)

    def add_older(self, older: Self) -> None:
        # Not `opened`: the store has these sessions in its own memory, and `flush` brings them to Redis.
        self.detached |= older.detached
        self.left_early |= older.left_early
        self.deleted |= older.deleted
        self.changed |= older.changed
        self.records[:0] = older.records
        for session_id, channels in older.channels.items():
            self.channels[session_id] = {**channels, **self.channels.get(session_id, {})}

    def parts(self) -> Iterable[Self]:
        return self.by_session().values()

    def by_session(self) -> dict[str, Self]:
        parts: defaultdict[str, Self] = defaultdict(lambda: type(self)(faulty=self.faulty))
        for session_id, session in self.opened.items():
            parts[session_id].opened[session_id] = session
        for session_id, channels in self.channels.items():
            parts[session_id].channels[session_id] = channels
        for name in ("detached", "left_early", "deleted", "changed"):
            for session_id in getattr(self, name):
                getattr(parts[session_id], name).add(session_id)
        for record in self.records:
            parts[record.session_id].records.append(record)
        return parts


class SessionKeeper:
    """The writer of this worker's sessions, and of the records of its ended connections.

    `healthy` is whether the store carried out the last request. `run` must run.
    """

    def __init__(
        self,
        store: SessionStore,
        ended_connections: EndedConnections,
        *,
        interval: float,
        timeout: float,
        on_ended: Callable[[str], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """`interval`: seconds between two rounds that keep sessions alive and clean up. `timeout`: seconds that `open`
        may wait. `on_ended` is called with the id of a session that another worker ended, `on_failed` with the id of a
        session that cannot be written, whatever Redis does."""
        self.store = store
        self.ended_connections = ended_connections
        self.healthy = True
        self._on_ended = on_ended
        self._on_failed = on_failed
        self._interval = interval
        self._timeout = timeout
        self._connected: set[str] = set()
        self._opened_at: dict[str, float] = {}  # by the monotonic clock, of sessions younger than EARLY_SECONDS
        self._changes = WriteBehind(
            "session writer",
            _Changes,
            self._write,
            on_unavailable=self._failed,
            on_faulty=self._give_up,
        )
        self._flush_now = asyncio.Event()

    async def open(self, session: SessionInfo) -> None:
        """Store a new session. To be awaited before its client learns of it.

        Returns without an answer from the store after `timeout`, or at once if the store is known to be away: the
        session is then written later.

        Raises ValueError for a session that no store can hold.
        """
        now = time.monotonic()
        for session_id in [*takewhile(lambda old: self._opened_at[old] < now - EARLY_SECONDS, self._opened_at)]:
            del self._opened_at[session_id]
        self._opened_at[session.session_id] = now
        self._connected.add(session.session_id)
        batch = self._changes.pending
        batch.opened[session.session_id] = session
        await self._wait_for_store()
        if session.session_id in batch.faulty:
            raise ValueError(f"the session of {session.user_id!r} cannot be stored")

    async def set_membership(self, session_id: str, channel: str, member: Member) -> None:
        """Note that a session joined a channel, or left it.

        To be awaited before the client learns of it, so that no crash forgets it. Waits for the store as `open` does.
        """
        self.note_membership(session_id, channel, member)
        await self._wait_for_store()

    def note_membership(self, session_id: str, channel: str, member: Member) -> None:
        """Have it written that a session joined a channel, or left it."""
        self._changes.pending.channels.setdefault(session_id, {})[channel] = member
        self._changes.wake()

    async def _wait_for_store(self) -> None:
        if self.healthy:
            await self._changes.wait_until_tried(self._timeout)
        else:
            self._changes.wake()  # nobody waits for a Redis that is known to be away

    def adopt(self, session_id: str) -> None:
        """Keep alive a session that the store has given to this worker, since its client came back here."""
        self._connected.add(session_id)
        self._opened_at.pop(session_id, None)
        pending = self._changes.pending
        for ended in (pending.detached, pending.left_early, pending.deleted):
            ended.discard(session_id)

    def close(self, session_id: str, *, clean: bool, sent_away: bool = False) -> None:
        """Note that the connection of a session ended.

        A clean close (1000, 1001) ends the session, too. Otherwise its client may come back to it.

        `sent_away`: the server closed the connection and asked the client to come back. A client that leaves by itself
        a moment after it came has less time to come back: such clients must not fill Redis with sessions.
        """
        self._connected.discard(session_id)
        opened_at = self._opened_at.pop(session_id, None)
        left_early = opened_at is not None and time.monotonic() - opened_at < EARLY_SECONDS and not sent_away
        pending = self._changes.pending
        detached = pending.left_early if left_early else pending.detached
        ended = pending.deleted if clean else detached
        if len(ended) < MAX_UNWRITTEN:
            ended.add(session_id)
        self._changes.wake()

    def add_record(self, record: ConnectionRecord) -> None:
        """Have the record of an ended connection written, see `EndedConnections`."""
        records = self._changes.pending.records
        if len(records) < MAX_UNWRITTEN_RECORDS:
            records.append(record)
            self._changes.wake()

    def changed(self, session_id: str) -> None:
        """Read a session of this worker again, since another worker changed or deleted it."""
        self._changes.pending.changed.add(session_id)
        self._changes.wake()

    def flush_now(self) -> None:
        """Write now what the store missed, since it is back."""
        self._flush_now.set()

    async def run(self) -> None:
        """Write changes and keep sessions alive until cancelled. Then write what is left, as far as Redis answers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(run_repeatedly(self._changes.run, "session writer"), name="session-writer")
                tasks.create_task(run_repeatedly(self._keep_alive, "session keep-alive"), name="session-keep-alive")
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._changes.flush()
                    await self._leave()

    async def _write(self, batch: _Changes) -> None:
        await self.store.create_many(list(batch.opened.values()))
        await self.store.update_channels(batch.channels)
        await self.store.detach_many(self._without_returned(batch.detached))
        await self.store.detach_many(self._without_returned(batch.left_early), keep_seconds=EARLY_KEEP_SECONDS)
        await self.store.delete_many(self._without_returned(batch.deleted))
        await self.ended_connections.write(batch.records)
        for session_id in batch.changed:
            if await self.store.refresh(session_id) is None and session_id in self._connected:
                self._on_ended(session_id)
        self._succeeded()

    def _without_returned(self, ended: Iterable[str]) -> list[str]:
        """Leave out sessions whose clients have come back since, while the batch could not be written."""
        return [session_id for session_id in ended if session_id not in self._connected]

    def _give_up(self, part: _Changes) -> None:
        """Let the connections fail whose sessions cannot be written."""
        for session_id in part.by_session():
            part.faulty.add(session_id)
            self._on_failed(session_id)

    async def _leave(self) -> None:
        if self.healthy and not self._connected:
            with suppress(RedisUnavailableError):  # the next cleanup then finds a worker without sessions
                await self.store.leave()

    async def _keep_alive(self) -> None:
        while True:
            await wait_at_most(self._flush_now, self._interval if self.healthy else min(self._interval, RETRY_SECONDS))
            self._flush_now.clear()
            for session_id in self._connected:
                self.store.touch(session_id)
            try:
                await self.store.flush()
                await self.store.cleanup()
            except RedisUnavailableError as exc:
                self._failed(exc)
            else:
                self._succeeded()
                self._changes.wake()
            raise_if_cancelled()

    def _failed(self, exc: RedisUnavailableError) -> None:
        if self.healthy:
            logger.warning("sessions cannot be written, they are kept here meanwhile: %s", exc)
        self.healthy = False

    def _succeeded(self) -> None:
        if not self.healthy:
            logger.info("sessions are written again", extra=EVENT)
        self.healthy = True
