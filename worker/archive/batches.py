"""The decision what of a page of Redis is written to the archive, and what was lost before it could be. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from wsd.worker.broker.history import Entry, Page, offset_of

MAX_CHANNEL_BYTES = 1024
"""The longest name of a channel that is archived. Clients of the hub name channels of 255 characters at most."""


@dataclass(frozen=True)
class Cursor:
    """The place up to which one epoch of a channel is archived. `run` counts the epochs of the channel, from 1."""

    run: int
    archived_to: int


@dataclass(frozen=True)
class Batch:
    """The entries to write, the offset up to which the epoch is archived then, and how many messages are missing."""

    entries: Sequence[Entry]
    archived_to: int
    lost: int


def batch_of(page: Page, cursor: Cursor, *, is_whole: bool) -> Batch:
    """Decide what of a page is written.

    `is_whole` says that the page goes up to the newest message. Offsets without an entry were trimmed, or have expired,
    before they were read: they are lost. What was there before a channel had an archive is not counted.
    """
    entries = [entry for entry in page.entries if offset_of(entry) > cursor.archived_to]
    lost, at = 0, cursor.archived_to
    is_first = cursor.run == 1 and at == 0
    for entry in entries:
        offset = offset_of(entry)
        lost += 0 if is_first else offset - at - 1
        at, is_first = offset, False
    if is_whole and page.top.offset > at:
        lost += 0 if is_first else page.top.offset - at
        at = page.top.offset
    return Batch(entries, at, lost)


def is_archivable(channel: str) -> bool:
    """Tell whether PostgreSQL can index the name of a channel. Applications may choose names that it cannot."""
    return "\0" not in channel and len(channel.encode()) <= MAX_CHANNEL_BYTES


def archived_text(payload: bytes) -> str | None:
    """Return a message as text that PostgreSQL accepts as JSON, or None for what no worker wrote."""
    try:
        text = payload.decode()
        # Not by msgspec, which refuses single surrogates; PostgreSQL takes them, as clients do.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
