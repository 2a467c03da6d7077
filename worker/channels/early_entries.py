"""Entries of a channel that members have and that have no position yet. Pure."""

from collections import OrderedDict
from collections.abc import Iterator

from wsd.worker.broker.history import Entry, Origin
from wsd.worker.broker.idempotency import attempt_of

MAX_EARLY = 10_000
MAX_EARLY_BYTES = 16_777_216

EntryKey = tuple[Origin, int]
"""Origin and number: what stays the same when an entry gets its position."""


class EarlyEntries:
    """The early entries of a channel, in the order in which they were handed out. Beyond the limits the oldest are
    forgotten."""

    __slots__ = ("_by_attempt", "_bytes", "_entries")

    def __init__(self) -> None:
        self._entries: OrderedDict[EntryKey, Entry] = OrderedDict()
        self._bytes = 0
        self._by_attempt: dict[bytes, EntryKey] = {}  # by the name that all tries of a message share

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def add(self, entry: Entry) -> None:
        key = (entry.origin, entry.number)
        self._entries[key] = entry
        self._bytes += len(entry.payload)
        if (attempt := attempt_of(entry.payload)) is not None:
            self._by_attempt[attempt[0]] = key
        while len(self._entries) > MAX_EARLY or self._bytes > MAX_EARLY_BYTES:
            self.remove(next(iter(self._entries)))

    def key_of(self, attempt_name: bytes) -> EntryKey | None:
        """Return the key of the try of a message that is here, if there is one."""
        return self._by_attempt.get(attempt_name)

    def remove(self, key: EntryKey) -> None:
        """Remove an entry, if it is here."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry.payload)
            if (attempt := attempt_of(entry.payload)) is not None:
                del self._by_attempt[attempt[0]]

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
        self._by_attempt.clear()
