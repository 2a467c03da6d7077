"""The events of sessions in the memory of one process."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count, islice
from typing import cast

from msgspec import Struct

from wsd.worker.contract.webhook_rules import EventType
from wsd.worker.hooks.event_queue import READERS, Entry, EventQueue, ReaderName, Waiting, Wanted
from wsd.worker.hooks.records import AnyEvent, SessionFacts, event_of

MAX_EVENTS = 100_000
"""Events that may wait for one reader, unless the settings say otherwise."""


class EventsSnapshot(Struct, frozen=True):
    """The record of a log of events, for another process."""

    next_number: int
    sessions: list[tuple[SessionFacts, set[str]]]  # with the channels of each
    queues: dict[ReaderName, list[tuple[str, AnyEvent]]]


class _Session:
    def __init__(self, facts: SessionFacts) -> None:
        self.facts = facts
        self.channels: set[str] = set()


class MemoryEventLog:
    """The events of a worker without a Redis. Events that nobody has handled end with the process."""

    def __init__(self, max_waiting: int, clock: Callable[[], float] = time.time) -> None:
        """`max_waiting`: events that may wait for one reader. Beyond it, the oldest are dropped."""
        self.wanted = Wanted()
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self._queues = {reader: _Queue(max_waiting) for reader in READERS}
        self._numbers = count(1)

    def queue(self, reader: ReaderName) -> EventQueue:
        """Return the queue of a reader, for one worker."""
        return _Reader(self._queues[reader])

    def opened(self, facts: SessionFacts, channels: Iterable[str]) -> None:
        """Note that a session was stored. Does nothing if that is noted already."""
        if self.wanted and facts.session_id not in self._sessions:
            self._sessions[facts.session_id] = _Session(facts)
            self._add("connected", facts, ())
            self.moved(facts.session_id, dict.fromkeys(channels, True))

    def moved(self, session_id: str, changes: Mapping[str, object]) -> None:
        """Note which channels a session has entered (a true value) and left."""
        if (session := self._sessions.get(session_id)) is None:
            return
        for channel, member in changes.items():
            if member and channel not in session.channels:
                session.channels.add(channel)
                self._add("subscribed", session.facts, (channel,))
            elif not member and channel in session.channels:
                session.channels.discard(channel)
                self._add("unsubscribed", session.facts, (channel,))

    def ended(self, session_id: str) -> None:
        """Note that a session is no longer stored. Does nothing if that is noted already."""
        if (session := self._sessions.pop(session_id, None)) is not None:
            self._add("disconnected", session.facts, tuple(sorted(session.channels)))

    def snapshot(self) -> EventsSnapshot:
        """Return the record with which another process can go on."""
        return EventsSnapshot(
            next(self._numbers),
            [(session.facts, session.channels) for session in self._sessions.values()],
            {
                reader: [(entry.entry_id, cast(AnyEvent, entry.event)) for entry in queue.entries]
                for reader, queue in self._queues.items()
            },
        )

    def restore(self, snapshot: EventsSnapshot) -> None:
        """Go on with the record of a process that has ended."""
        self._numbers = count(snapshot.next_number)
        for facts, channels in snapshot.sessions:
            session = self._sessions[facts.session_id] = _Session(facts)
            session.channels = channels
        for reader, entries in snapshot.queues.items():
            for entry_id, event in entries:
                self._queues[reader].add(Entry(entry_id, event))

    def _add(self, kind: EventType, facts: SessionFacts, channels: tuple[str, ...]) -> None:
        number = str(next(self._numbers))
        entry = Entry(number, event_of(kind, number, self._clock(), facts, channels))
        for reader, kinds in zip(READERS, self.wanted, strict=True):
            if kind in kinds:
                self._queues[reader].add(entry)


class _Queue:
    def __init__(self, max_waiting: int) -> None:
        self.entries: deque[Entry] = deque(maxlen=max_waiting)
        self.dropped = 0
        self.holder: object = None

    def add(self, entry: Entry) -> None:
        if len(self.entries) == self.entries.maxlen:
            self.dropped += 1
        self.entries.append(entry)


class _Reader(EventQueue):
    def __init__(self, queue: _Queue) -> None:
        self._queue = queue

    async def take(self) -> bool:
        if self._queue.holder is None:
            self._queue.holder = self
        return await self.renew()

    async def renew(self) -> bool:
        return self._queue.holder is self

    async def release(self) -> None:
        if self._queue.holder is self:
            self._queue.holder = None

    async def read(self, limit: int) -> list[Entry]:
        return list(islice(self._queue.entries, limit))

    async def remove(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            with suppress(ValueError):  # it was dropped meanwhile
                self._queue.entries.remove(entry)  # found at once: entries are read from the front

    async def waiting(self) -> Waiting:
        entries = self._queue.entries
        return Waiting(len(entries), entries[0].event.at if entries else None, self._queue.dropped)
