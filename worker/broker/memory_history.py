"""The history of one channel in the memory of this process."""

import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from msgspec import Struct

from wsd.worker.broker.history import (
    IDEMPOTENCY_SECONDS,
    PAGE_BYTES,
    AppendResult,
    Entry,
    Origin,
    Page,
    Retention,
    epoch_seconds,
    new_epoch,
    offset_of,
    page_of,
)
from wsd.worker.wire.position import Position


class HistorySnapshot(Struct, frozen=True):
    """The record of a history, for another process on this machine: times are by the monotonic clock of both."""

    epoch: str
    offset: int
    entries: list[Entry]
    ttl: float
    expires_at: float
    positions: dict[str, tuple[float, Position]]


class MemoryHistory:
    """The history of one channel. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoch = new_epoch()
        self._offset = 0
        self._entries: deque[Entry] = deque()
        self._ttl = 0.0
        self._expires_at = clock()
        self._positions: dict[str, tuple[float, Position]] = {}  # by idempotency key, with its expiry

    def append(self, origin: Origin, number: int, payload: bytes, retention: Retention) -> AppendResult:
        """Append a message, unless its idempotency key was used lately. Then the result has no entry."""
        now = self._clock()
        self._forget(now)
        key = retention.idempotency_key
        if key and key in self._positions:
            return AppendResult(self._positions[key][1], None)
        self._offset += 1
        position = Position(self._offset, self._epoch)
        entry = Entry(origin, number, payload, position)
        self._entries.append(entry)
        while len(self._entries) > retention.size:
            self._entries.popleft()
        self._ttl = retention.ttl
        self._expires_at = now + retention.ttl
        if key:
            self._positions[key] = (now + IDEMPOTENCY_SECONDS, position)
        return AppendResult(position, entry)

    def read(self, since: int | None, count: int, *, reverse: bool, max_bytes: int = PAGE_BYTES) -> Page:
        """Return a page, as `HistoryQuery` describes it."""
        self._forget(self._clock())
        top = Position(self._offset, self._epoch)
        if since is None:
            return Page(top)
        if reverse:
            end = since or self._offset + 1
            found = (entry for entry in reversed(self._entries) if offset_of(entry) < end)
        else:
            found = (entry for entry in self._entries if offset_of(entry) > since)
        return page_of(top, islice(found, count), max_bytes)

    def snapshot(self) -> HistorySnapshot:
        """Return the record with which another process can go on."""
        return HistorySnapshot(
            self._epoch, self._offset, list(self._entries), self._ttl, self._expires_at, dict(self._positions)
        )

    @classmethod
    def restored(cls, snapshot: HistorySnapshot) -> "MemoryHistory":
        """Return the history of a record."""
        history = cls()
        history._epoch, history._offset = snapshot.epoch, snapshot.offset
        history._entries.extend(snapshot.entries)
        history._ttl, history._expires_at = snapshot.ttl, snapshot.expires_at
        history._positions.update(snapshot.positions)
        return history

    def clear(self) -> None:
        """Delete all messages. The offsets go on."""
        self._entries.clear()

    def _forget(self, now: float) -> None:
        if now >= self._expires_at:
            self._entries.clear()
        while self._positions:  # the oldest is first
            key = next(iter(self._positions))
            if now < self._positions[key][0]:
                break
            del self._positions[key]

    @property
    def forgotten(self) -> bool:
        """True once the epoch is over, so that no client could resume from it any more."""
        return self._clock() >= self._expires_at - self._ttl + epoch_seconds(self._ttl)
