"""Pages of Redis and of the archive are joined: no message twice, none missing at the seam."""

from itertools import product

import pytest

from wsd.worker.archive.pages import Archived, Asked, Span, joined, of_its_epoch, span_beyond, without_archive
from wsd.worker.broker.history import Entry, Page, offset_of, page_of
from wsd.worker.wire.position import NOWHERE, Position

MANY_BYTES = 1000


def entry(offset: int, epoch: str = "e") -> Entry:
    return Entry(b"o", offset, b"12345", Position(offset, epoch))


def redis_page(asked: Asked, oldest: int, top: int) -> Page:
    """Return what Redis answers, which has the messages from `oldest` on."""
    offsets = range(oldest, top + 1)
    if asked.reverse:
        found = [n for n in reversed(offsets) if n < (asked.since or top + 1)]
    else:
        found = [n for n in offsets if n > asked.since]
    return page_of(Position(top, "e"), map(entry, found[: asked.count]), asked.max_bytes)


def archive_page(span: Span, archived_to: int) -> Archived:
    """Return what the archive answers, which has the messages up to `archived_to`."""
    found = [n for n in range(1, archived_to + 1) if n > span.after and (not span.before or n < span.before)]
    if span.reverse:
        found.reverse()
    page = page_of(NOWHERE, map(entry, found[: span.count]), span.max_bytes)
    return Archived(page.entries, len(page.entries) < len(found), Position(archived_to, "e"), "before")


@pytest.mark.parametrize(("oldest", "archived_to"), [(1, 6), (4, 3), (4, 5), (4, 6), (7, 6)])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("count", "max_bytes"), [(1, MANY_BYTES), (2, MANY_BYTES), (4, 11), (5, 3), (100, MANY_BYTES)])
def test_pages_from_one_end_to_the_other_have_every_message_once(
    oldest: int, archived_to: int, reverse: bool, count: int, max_bytes: int
) -> None:
    top = 6
    for start in range(top + 2):
        since, seen = start, list[int]()
        while True:
            asked = Asked(since, count, max_bytes, reverse)
            page = redis_page(asked, oldest, top)
            if (span := span_beyond(asked, page)) is not None:
                page = joined(asked, page, span, archive_page(span, archived_to))
            assert not page.incomplete
            assert len(page.entries) <= count
            assert len(page.entries) <= max(1, max_bytes // 5)
            if not page.entries:
                break
            seen += map(offset_of, page.entries)
            since = seen[-1]
            if reverse and since == 1:
                break
        below = range(top if start == 0 else min(start - 1, top), 0, -1)
        assert seen == (list(below) if reverse else list(range(start + 1, top + 1)))


@pytest.mark.parametrize(("reverse", "count"), list(product([False, True], [2, 100])))
def test_a_page_says_that_messages_at_the_seam_are_not_archived_yet(reverse: bool, count: int) -> None:
    asked = Asked(5 if reverse else 0, count, MANY_BYTES, reverse)
    page = redis_page(asked, 5, 6)
    span = span_beyond(asked, page)
    assert span is not None
    found = joined(asked, page, span, archive_page(span, 3))
    assert found.incomplete is (reverse or count == 100)


@pytest.mark.parametrize(
    ("asked", "page", "span"),
    [
        (Asked(0, 3, MANY_BYTES), (1, 6), None),
        (Asked(3, 3, MANY_BYTES), (4, 6), None),
        (Asked(6, 3, MANY_BYTES), (4, 6), None),
        (Asked(9, 3, MANY_BYTES), (4, 6), None),
        (Asked(1, 3, MANY_BYTES), (4, 6), Span("e", 1, 4, 3, MANY_BYTES, reverse=False)),
        (Asked(1, 3, MANY_BYTES), (7, 6), Span("e", 1, 7, 3, MANY_BYTES, reverse=False)),
        (Asked(0, 3, MANY_BYTES, reverse=True), (4, 6), None),
        (Asked(0, 4, MANY_BYTES, reverse=True), (4, 6), Span("e", 0, 4, 1, MANY_BYTES - 15, reverse=True)),
        (Asked(3, 4, MANY_BYTES, reverse=True), (4, 6), Span("e", 0, 3, 4, MANY_BYTES, reverse=True)),
        (Asked(99, 9, MANY_BYTES, reverse=True), (7, 6), Span("e", 0, 7, 9, MANY_BYTES, reverse=True)),
        (Asked(0, 9, MANY_BYTES, reverse=True), (1, 6), Span("e", 0, 1, 3, MANY_BYTES - 30, reverse=True)),
        (Asked(0, 9, 15, reverse=True), (1, 6), None),
        (Asked(2, 9, MANY_BYTES, epoch="old"), (1, 6), Span("old", 2, 0, 9, MANY_BYTES, reverse=False)),
        (Asked(2, 9, MANY_BYTES, reverse=True, epoch="old"), (1, 6), Span("old", 0, 2, 9, MANY_BYTES, reverse=True)),
        (Asked(2, 9, MANY_BYTES, epoch="e"), (1, 6), None),
    ],
)
def test_the_archive_is_asked_for_what_redis_does_not_have(
    asked: Asked, page: tuple[int, int], span: Span | None
) -> None:
    assert span_beyond(asked, redis_page(asked, *page)) == span


def test_a_channel_that_redis_has_forgotten_is_read_from_its_last_epoch() -> None:
    asked = Asked(0, 2, MANY_BYTES, reverse=True)
    page = Page(NOWHERE)
    span = span_beyond(asked, page)
    assert span == Span("", 0, 0, 2, MANY_BYTES, reverse=True)
    old = Archived((entry(9, "old"), entry(8, "old")), True, Position(9, "old"), "older")
    found = joined(asked, page, span, old)
    assert (found.top, found.previous) == (Position(9, "old"), "older")
    assert [offset_of(each) for each in found.entries] == [9, 8]
    assert joined(asked, page, span, Archived()).top == NOWHERE


def test_an_earlier_epoch_has_none_of_the_messages_of_now() -> None:
    asked = Asked(0, 9, MANY_BYTES, epoch="old")
    page = redis_page(asked, 1, 3)
    span = span_beyond(asked, page)
    assert span is not None
    assert joined(asked, page, span, Archived()).entries == ()
    assert without_archive(page, span).entries == ()
    assert without_archive(page, span).incomplete
    assert of_its_epoch(asked, page).entries == ()
    assert of_its_epoch(Asked(0, 9, MANY_BYTES), page) is page


def test_without_the_archive_a_page_has_what_redis_has() -> None:
    asked = Asked(0, 9, MANY_BYTES, reverse=True)
    page = redis_page(asked, 4, 6)
    span = span_beyond(asked, page)
    assert span is not None
    found = without_archive(page, span)
    assert [offset_of(each) for each in found.entries] == [6, 5, 4]
    assert found.incomplete
