"""The entries of a channel that were handed out last, for clients that come back. Pure."""

from collections import deque
from collections.abc import Sequence
from itertools import dropwhile

from wsd.worker.broker.history import Entry, offset_of

MAX_RECENT_BYTES = 262_144
"""Payloads kept. Clients that come back read older entries from the history."""


class RecentEntries:
    """A run of entries without a hole, up to the last one that was handed out."""

    __slots__ = ("_bytes", "_entries")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._bytes = 0

    @property
    def full(self) -> bool:
        return self._bytes >= MAX_RECENT_BYTES

    def append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.payload)
        while self._bytes > MAX_RECENT_BYTES and len(self._entries) > 1:
            self._bytes -= len(self._entries.popleft().payload)

    def prepend(self, entries: Sequence[Entry]) -> None:
        """Add the entries that come right before those that are here."""
        self._entries.extendleft(reversed(entries))
        self._bytes += sum(len(entry.payload) for entry in entries)

    def first_offset(self, default: int) -> int:
        """Return the offset of the oldest entry; `default` if there is none."""
        return offset_of(self._entries[0]) if self._entries else default

    def after(self, offset: int) -> tuple[Entry, ...] | None:
        """Return the entries after an offset; None if they do not reach back so far."""
        if not self._entries or offset_of(self._entries[0]) > offset + 1:
            return None
        return tuple(dropwhile(lambda entry: offset_of(entry) <= offset, self._entries))

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
