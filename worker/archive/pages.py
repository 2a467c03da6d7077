"""The decision what of a history the archive is asked for, and how its answer and that of Redis are joined. Pure.

Redis has the newest messages of an epoch, and the archive those before. The seam is the oldest offset that Redis has.
"""

from collections.abc import Sequence
from itertools import chain, islice

from msgspec import Struct
from msgspec.structs import replace

from wsd.worker.broker.history import Entry, Page, offset_of, page_of
from wsd.worker.wire.position import Position


class Asked(Struct, frozen=True):
    """A question for messages of a channel, as `HistoryQuery` describes it. `epoch` "" is that of now."""

    since: int
    count: int
    max_bytes: int
    reverse: bool = False
    epoch: str = ""


class Span(Struct, frozen=True):
    """The part of an epoch that the archive is asked for: offsets above `after` and below `before` (0: no limit)."""

    epoch: str  # "": the latest that the archive has
    after: int
    before: int
    count: int
    max_bytes: int
    reverse: bool


class Archived(Struct, frozen=True):
    """The answer of the archive: entries in the order that was asked for, and whether the span may have more.

    `top` says how far the epoch is archived; it is None for an epoch that the archive does not know. `previous` is the
    epoch before, "" if there is none.
    """

    entries: Sequence[Entry] = ()
    more: bool = False
    top: Position | None = None
    previous: str = ""


def span_beyond(asked: Asked, page: Page) -> Span | None:
    """Return what the archive is to be asked for beyond a page of Redis, or None if the page has all."""
    if page.top.epoch == "" or asked.epoch not in ("", page.top.epoch):
        after, before = (0, asked.since) if asked.reverse else (asked.since, 0)
        return Span(asked.epoch, after, before, asked.count, asked.max_bytes, asked.reverse)
    epoch, entries = page.top.epoch, page.entries
    if not asked.reverse:
        seam = offset_of(entries[0]) if entries else page.top.offset + 1
        if seam <= asked.since + 1:
            return None
        return Span(epoch, asked.since, seam, asked.count, asked.max_bytes, reverse=False)
    left = asked.count - len(entries)
    room = asked.max_bytes - sum(len(entry.payload) for entry in entries)
    if page.more or left <= 0 or room <= 0:
        return None
    newest = page.top.offset + 1
    seam = offset_of(entries[-1]) if entries else min(asked.since or newest, newest)
    return Span(epoch, 0, seam, left, room, reverse=True)


def joined(asked: Asked, page: Page, span: Span, found: Archived) -> Page:
    """Join a page of Redis with what the archive has of the span beyond it."""
    if span.epoch == "" or span.epoch != page.top.epoch:
        top = found.top or page.top
        return replace(page, top=top, entries=tuple(found.entries), more=found.more, previous=found.previous)
    seen_to = found.top.offset if found.top is not None else 0
    is_behind = (asked.reverse or not found.more) and seen_to < span.before - 1
    parts = (page.entries, found.entries) if asked.reverse else (found.entries, () if found.more else page.entries)
    whole = page_of(page.top, islice(chain(*parts), asked.count), asked.max_bytes, more=found.more or page.more)
    return replace(whole, previous=found.previous, incomplete=is_behind)


def without_archive(page: Page, span: Span) -> Page:
    """Return a page of Redis for the time when the archive does not answer."""
    return replace(page, entries=page.entries if span.epoch == page.top.epoch else (), incomplete=True)


def of_its_epoch(asked: Asked, page: Page) -> Page:
    """Return a page of a channel without an archive: messages of earlier epochs are gone."""
    return page if asked.epoch in ("", page.top.epoch) else replace(page, entries=())
