"""What of a page of Redis is written to the archive, and what counts as lost."""

from collections.abc import Sequence

import pytest

from wsd.worker.archive.batches import Cursor, archived_text, batch_of, is_archivable
from wsd.worker.broker.history import Entry, Page, offset_of
from wsd.worker.wire.position import Position


def page(offsets: Sequence[int], top: int) -> Page:
    return Page(Position(top, "e"), tuple(Entry(b"o", n, b"{}", Position(n, "e")) for n in offsets))


@pytest.mark.parametrize(
    ("offsets", "top", "cursor", "is_whole", "written", "archived_to", "lost"),
    [
        ([1, 2, 3], 3, Cursor(1, 0), True, [1, 2, 3], 3, 0),
        ([4, 5], 5, Cursor(1, 3), True, [4, 5], 5, 0),
        ([], 3, Cursor(1, 3), True, [], 3, 0),
        ([2, 3], 3, Cursor(1, 2), True, [3], 3, 0),  # a deletion has moved the cursor meanwhile
        ([2, 3], 3, Cursor(1, 9), True, [], 9, 0),
        ([6, 7], 7, Cursor(1, 3), True, [6, 7], 7, 2),  # trimmed
        ([4, 7], 7, Cursor(1, 3), True, [4, 7], 7, 2),
        ([], 9, Cursor(1, 3), True, [], 9, 6),  # expired
        ([4], 9, Cursor(1, 3), True, [4], 9, 5),
        ([4, 5], 9, Cursor(1, 3), False, [4, 5], 5, 0),  # more pages follow
        ([50, 51], 51, Cursor(1, 0), True, [50, 51], 51, 0),  # a channel that had no archive before
        ([], 50, Cursor(1, 0), True, [], 50, 0),
        ([50, 53], 53, Cursor(1, 0), True, [50, 53], 53, 2),
        ([3], 3, Cursor(2, 0), True, [3], 3, 2),  # the next epoch of a channel that has one
        ([], 3, Cursor(2, 0), True, [], 3, 3),
    ],
)
def test_a_page_is_written_from_the_cursor_on_and_holes_are_counted(
    offsets: list[int], top: int, cursor: Cursor, is_whole: bool, written: list[int], archived_to: int, lost: int
) -> None:
    batch = batch_of(page(offsets, top), cursor, is_whole=is_whole)
    assert [offset_of(entry) for entry in batch.entries] == written
    assert (batch.archived_to, batch.lost) == (archived_to, lost)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"a": "\xc3\xa4\\u0000\\ud800"}', '{"a": "ä\\u0000\\ud800"}'),
        (b"", None),
        (b"not JSON", None),
        (b'{"a": NaN}', None),
        (b'{"a": "\xff"}', None),
        (b"[" * 100_000 + b"]" * 100_000, None),
    ],
)
def test_only_json_is_kept_as_it_is(payload: bytes, text: str | None) -> None:
    assert archived_text(payload) == text


@pytest.mark.parametrize(
    ("channel", "fits"), [("room:1", True), ("!ann", True), ("ä" * 512, True), ("a\0b", False), ("ä" * 513, False)]
)
def test_names_that_postgresql_cannot_index_have_no_archive(channel: str, fits: bool) -> None:
    assert is_archivable(channel) is fits
