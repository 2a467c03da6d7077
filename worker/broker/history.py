"""What was said in a channel: positions, the entries between them, and the history of a worker that stands alone.

A channel's messages are numbered from 1, without a hole; the number is a message's offset. An epoch names one run of
numbers: where the history was lost, offsets begin anew under another epoch. Together they are a position.
"""

import secrets
from collections.abc import Iterable

from msgspec import Struct

from wsd.worker.wire.position import Position

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


class Entry(Struct, frozen=True, gc=False):
    """A message of a channel with history, with the number that its publisher's worker gave it.

    `position` is None for one that only this node has yet.
    """

    origin: Origin
    number: int
    payload: bytes
    position: Position | None


class Retention(Struct, frozen=True, gc=False):
    """How long a message is kept, and what makes a second try count as the same."""

    size: int
    ttl: float  # seconds
    idempotency_key: str = ""  # as it is stored, see `idempotency`


class HistoryQuery(Struct, frozen=True, gc=False):
    """A question: entries of `channel` after `since`, `count` of them at most; without `since` only the top.

    `reverse`: those before `since` (0: from the newest), the newest first. `follows`: who asks has members there, so
    the channel needs an epoch, and keeps it. Nobody else creates one: without it the answer is empty.
    """

    channel: str
    retention: Retention
    since: int | None = None
    count: int = PAGE_ENTRIES
    reverse: bool = False
    follows: bool = False
    max_bytes: int = PAGE_BYTES


class AppendResult(Struct, frozen=True, gc=False):
    """Where a message stands; `entry` is None when it was there already."""

    position: Position
    entry: Entry | None


StoredAt = tuple[Position, bool]
"""The position of a stored message, and whether the message is new there."""


class Page(Struct, frozen=True, gc=False):
    """The answer: the channel's newest position, and entries in the order that was asked for.

    `more`: there are fewer than asked for, since all would be too large.
    """

    top: Position
    entries: tuple[Entry, ...] = ()
    more: bool = False
    problem: str = ""
    """Why the server does not read this history, where something else stands in its place, for example."""


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
