"""The records of a channel's history: its entries, how long they are kept, and how they are read.

The messages of a channel are numbered from 1, without a hole. The number is the offset of a message. An epoch names one
run of numbers: if the history is lost, offsets begin anew under another epoch. Both together are a position.
"""

import secrets
from collections.abc import Iterable

from msgspec import Struct

from wsd.worker.wire.position import Position

PAGE_ENTRIES = 500
"""How many entries are read at once."""

PAGE_BYTES = 262_144
"""How many bytes of payloads are read at once: a page of large entries has fewer of them, and one at least."""

META_LIFETIMES = 10
"""How many times longer than the history itself its epoch and top offset are remembered."""

EMPTY_SECONDS = 600
"""How long the epoch of a channel is remembered: at least, and at most if the channel never had a message.

A worker asks for the position of each channel with members far more often. So an epoch does not end while the channel
has members, however short its history is.
"""

ARCHIVED_EPOCH_SECONDS = 30 * 86_400
"""How long the epoch of an archived channel is remembered, at least: offsets of a channel that pauses go on."""

IDEMPOTENCY_SECONDS = 120
"""How long an idempotency key is remembered."""

Origin = bytes
"""The id of the broker that sent and numbered a message."""


class Entry(Struct, frozen=True, gc=False):
    """A message of a channel with a history, with the number that its broker gave it.

    `position` is None for a message that Redis has not stored yet. Only this node, or this worker, has it.
    """

    origin: Origin
    number: int
    payload: bytes
    position: Position | None


class Retention(Struct, frozen=True, gc=False):
    """The terms on which a message is kept: how many of its channel, for how long, and under which idempotency key."""

    size: int  # messages of the channel
    ttl: float  # seconds after the last message
    idempotency_key: str = ""  # a stored key, see `idempotency`
    idempotency_seconds: int = IDEMPOTENCY_SECONDS  # how long that key is remembered
    archived: bool = False  # whether PostgreSQL keeps it, too


class HistoryQuery(Struct, frozen=True, gc=False):
    """A question for `count` entries of `channel` at most, after offset `since`; without `since` only for its position.

    With `reverse` the entries are those before `since` (0: from the newest), the newest first. `follows` says that the
    asking worker has members in the channel, so that the channel needs an epoch, and keeps it. No other query creates
    an epoch: a channel without one has an empty page.
    """

    channel: str
    retention: Retention
    since: int | None = None
    count: int = PAGE_ENTRIES
    reverse: bool = False
    follows: bool = False
    max_bytes: int = PAGE_BYTES


class AppendResult(Struct, frozen=True, gc=False):
    """The position of a stored message. `entry` is None if an earlier attempt had stored it already."""

    position: Position
    entry: Entry | None


StoredAt = tuple[Position, bool]
"""The position of a stored message, and whether the message is new there."""


class Page(Struct, frozen=True, gc=False):
    """The answer to a HistoryQuery: the channel's newest position, and entries in the order that was asked for.

    `more` says that there are fewer entries than asked for, since all of them would be too large.
    """

    top: Position
    entries: tuple[Entry, ...] = ()
    more: bool = False
    previous: str = ""
    """The epoch before, where the archive was asked and has it."""

    incomplete: bool = False
    """Whether messages may be missing, since the archive did not answer, or has not written them yet."""

    problem: str = ""
    """The reason why this history cannot be read: its key holds something else, for example."""


def page_of(top: Position, entries: Iterable[Entry], max_bytes: int, *, more: bool = False) -> Page:
    """Make a page of as many entries as `max_bytes` allow, and one at least.

    `more` says that there are others than `entries` anyway.
    """
    chosen: list[Entry] = []
    size = 0
    for entry in entries:
        if chosen and size + len(entry.payload) > max_bytes:
            return Page(top, tuple(chosen), more=True)
        chosen.append(entry)
        size += len(entry.payload)
    return Page(top, tuple(chosen), more)


def offset_of(entry: Entry) -> int:
    """Return the offset of an entry that has a position."""
    assert entry.position is not None
    return entry.position.offset


def epoch_seconds(history_ttl: float, *, archived: bool = False) -> float:
    """Return how many seconds the epoch and the top offset are remembered after the last message."""
    return max(history_ttl * META_LIFETIMES, ARCHIVED_EPOCH_SECONDS if archived else EMPTY_SECONDS)


def new_epoch() -> str:
    return secrets.token_hex(4)
