"""Which marked channels are read, and when a mark is removed."""

from wsd.worker.archive.marks import SETTLE_SECONDS, MarkBook


def test_a_mark_is_read_at_once_and_once_more_when_it_has_settled() -> None:
    book = MarkBook()
    assert book.to_read({"a": 1}, 0.0) == ["a"]
    book.note_read("a", 0.0)
    assert book.to_read({"a": 1}, 0.5) == []
    assert book.settled() == {}
    assert book.to_read({"a": 1}, SETTLE_SECONDS) == ["a"]
    book.note_read("a", SETTLE_SECONDS)
    assert book.settled() == {"a": 1}


def test_a_mark_that_is_renewed_is_read_again_and_settles_anew() -> None:
    book = MarkBook()
    book.to_read({"a": 1}, 0.0)
    book.note_read("a", 0.0)
    assert book.to_read({"a": 2}, 4.0) == ["a"]
    book.note_read("a", 4.0)
    assert book.to_read({"a": 2}, SETTLE_SECONDS) == []
    assert book.settled() == {}
    assert book.to_read({"a": 2}, 4.0 + SETTLE_SECONDS) == ["a"]


def test_a_mark_with_an_earlier_time_by_another_clock_is_a_new_mark() -> None:
    book = MarkBook()
    book.to_read({"a": 9}, 0.0)
    book.note_read("a", 0.0)
    assert book.to_read({"a": 3}, 1.0) == ["a"]


def test_a_read_that_began_before_the_mark_settled_removes_nothing() -> None:
    book = MarkBook()
    book.to_read({"a": 1}, 0.0)
    book.note_read("a", SETTLE_SECONDS - 0.1)
    assert book.settled() == {}
    assert book.to_read({"a": 1}, SETTLE_SECONDS + 1) == ["a"]


def test_a_channel_that_is_not_read_stays_due_and_is_counted() -> None:
    book = MarkBook()
    assert book.to_read({"a": 1, "b": 2}, 0.0) == ["a", "b"]
    book.note_read("b", 0.0)
    assert book.unread() == [1]
    assert book.to_read({"a": 1, "b": 2}, 0.25) == ["a"]


def test_a_mark_that_is_gone_is_forgotten() -> None:
    book = MarkBook()
    book.to_read({"a": 1}, 0.0)
    book.to_read({}, 1.0)
    book.note_read("a", 1.0)
    assert (book.settled(), book.unread()) == ({}, [])
    assert book.to_read({"a": 1}, 2.0) == ["a"]
