"""What was said in a channel: positions, the entries between them, and the history of a worker that stands alone.

A channel's messages are numbered from 1, without a hole; the number is a message's offset. An epoch names one run of
numbers: where the history was lost, offsets begin anew under another epoch. Together they are a position.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from msgspec import Struct

PAGE_ENTRIES = 500
"""Entries read at once."""

PAGE_BYTES = 262_144
"""Payloads read at once: where entries are large, a page has fewer of them, and one at least."""

META_LIFETIMES = 10
"""How many times longer than the history its epoch and top offset are remembered."""

EMPTY_SECONDS = 600
"""How long the epoch of a channel is remembered at least, and at most where the channel never had a message.

A worker asks for the position of each channel with members far more often. So an epoch does not end while somebody is
there, however short the history is.
"""

IDEMPOTENCY_SECONDS = 120

Origin = bytes
"""Who numbered a message: a worker's broker."""


class Position(Struct, frozen=True, gc=False):
    offset: int
    epoch: str

    @classmethod
    def parse(cls, text: str | bytes) -> "Position":
        """Of `17:5f0c`. Raises ValueError."""
        offset, _, epoch = (text if isinstance(text, str) else text.decode()).partition(":")
        return cls(int(offset), epoch)

    def __str__(self) -> str:
        return f"{self.offset}:{self.epoch}"


class Entry(Struct, frozen=True, gc=False):
    """A message of a channel with history, with the number that its publisher's worker gave it.

    `position` is None for one that only this node has yet.
    """

    origin: Origin
    number: int
    payload: bytes
    position: Position | None


class Keep(Struct, frozen=True, gc=False):
    """How long a message is kept, and what makes a second try count as the same."""

    size: int
    ttl: float  # seconds
    idempotency_key: str = ""  # as it is stored, see `message_names`


class Wanted(Struct, frozen=True, gc=False):
    """A question: entries of `channel` after `since`, `count` of them at most; without `since` only the top.

    `reverse`: those before `since` (0: from the newest), the newest first. `follows`: who asks has members there, so
    the channel needs an epoch, and keeps it. Nobody else creates one: without it the answer is empty.
    """

    channel: str
    keep: Keep
    since: int | None = None
    count: int = PAGE_ENTRIES
    reverse: bool = False
    follows: bool = False
    max_bytes: int = PAGE_BYTES


class Stored(Struct, frozen=True, gc=False):
    """Where a message stands; `entry` is None when it was there already."""

    position: Position
    entry: Entry | None


class Page(Struct, frozen=True, gc=False):
    """The answer: the channel's newest position, and entries in the order that was asked for.

    `more`: there are fewer than asked for, since all would be too large.
    """

    top: Position
    entries: tuple[Entry, ...] = ()
    more: bool = False
    problem: str = ""
    """Why the server does not read this history, where something else stands in its place, for example."""


NOWHERE = Position(0, "")
"""The position in a history that there is not."""


def page_of(top: Position, entries: Iterable[Entry], max_bytes: int, *, more: bool = False) -> Page:
    """Make a page of as many entries as `max_bytes` allow, and one at least. `more`: there are others anyway."""
    chosen: list[Entry] = []
    size = 0
    for entry in entries:
        if chosen and size + len(entry.payload) > max_bytes:
            return Page(top, tuple(chosen), more=True)
        chosen.append(entry)
        size += len(entry.payload)
    return Page(top, tuple(chosen), more)


def offset_of(entry: Entry) -> int:
    """Of an entry that has one."""
    assert entry.position is not None
    return entry.position.offset


def epoch_seconds(history_ttl: float) -> float:
    """Return how long the epoch and the top offset are remembered after the last message, in seconds."""
    return max(history_ttl * META_LIFETIMES, EMPTY_SECONDS)


def new_epoch() -> str:
    return secrets.token_hex(4)


class MemoryHistory:
    """Of one channel, in this process. Times by `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoch = new_epoch()
        self._offset = 0
        self._entries: deque[Entry] = deque()
        self._ttl = 0.0
        self._expires_at = clock()
        self._positions: dict[str, tuple[float, Position]] = {}  # by idempotency key, with when it expires

    def append(self, origin: Origin, number: int, payload: bytes, keep: Keep) -> Stored:
        now = self._clock()
        self._forget(now)
        key = keep.idempotency_key
        if key and key in self._positions:
            return Stored(self._positions[key][1], None)
        self._offset += 1
        position = Position(self._offset, self._epoch)
        entry = Entry(origin, number, payload, position)
        self._entries.append(entry)
        while len(self._entries) > keep.size:
            self._entries.popleft()
        self._ttl = keep.ttl
        self._expires_at = now + keep.ttl
        if key:
            self._positions[key] = (now + IDEMPOTENCY_SECONDS, position)
        return Stored(position, entry)

    def read(self, since: int | None, count: int, *, reverse: bool, max_bytes: int = PAGE_BYTES) -> Page:
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
        """Whether nobody could resume from here any more."""
        return self._clock() >= self._expires_at - self._ttl + epoch_seconds(self._ttl)
