"""The two stores of entries of a channel's feed: bounded, and true to the order."""

import pytest

from wsd.worker.broker.history import Entry
from wsd.worker.broker.idempotency import stored_key, uid_of
from wsd.worker.channels import early_entries, recent_entries
from wsd.worker.channels.early_entries import EarlyEntries
from wsd.worker.channels.recent_entries import RecentEntries
from wsd.worker.wire import messages as wire
from wsd.worker.wire.position import Position


def early(number: int, payload: bytes = b"{}") -> Entry:
    return Entry(b"a", number, payload, None)


def stored(offset: int) -> Entry:
    return Entry(b"a", offset, b"12345", Position(offset, "e"))


def test_early_entries_keep_their_order_and_are_found_by_their_key() -> None:
    entries = EarlyEntries()
    for number in (1, 3, 2):
        entries.add(early(number))
    assert [entry.number for entry in entries] == [1, 3, 2]
    entries.remove((b"a", 3))
    entries.remove((b"a", 3))
    assert [entry.number for entry in entries] == [1, 2]
    entries.clear()
    assert list(entries) == []


def test_an_early_entry_is_found_by_what_all_its_tries_share() -> None:
    uid = uid_of("room", stored_key("ann", "key"), 0.0)
    payload = wire.encode(wire.Message(channel="room", data=1, uid=uid))
    entries = EarlyEntries()
    entries.add(early(7, payload))
    name = uid.encode().partition(b"-")[0]
    assert entries.key_of(name) == (b"a", 7)
    entries.remove((b"a", 7))
    assert entries.key_of(name) is None


def test_the_oldest_early_entries_are_forgotten_beyond_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_entries, "MAX_EARLY", 3)
    monkeypatch.setattr(early_entries, "MAX_EARLY_BYTES", 10)
    entries = EarlyEntries()
    for number in range(1, 5):
        entries.add(early(number))
    assert [entry.number for entry in entries] == [2, 3, 4]
    entries.add(early(5, b"12345678"))
    assert [entry.number for entry in entries] == [4, 5]


def test_recent_entries_answer_only_as_far_back_as_they_reach() -> None:
    entries = RecentEntries()
    assert entries.after(0) is None
    assert entries.first_offset(9) == 9
    for offset in (5, 6, 7):
        entries.append(stored(offset))
    assert entries.after(3) is None
    assert entries.after(4) == (stored(5), stored(6), stored(7))
    assert entries.after(6) == (stored(7),)
    entries.prepend([stored(3), stored(4)])
    assert entries.first_offset(0) == 3
    assert entries.after(2) == tuple(stored(offset) for offset in range(3, 8))
    entries.clear()
    assert entries.after(6) is None


def test_recent_entries_are_bounded_and_keep_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_entries, "MAX_RECENT_BYTES", 10)
    entries = RecentEntries()
    for offset in range(1, 5):
        entries.append(stored(offset))
    assert entries.after(2) == (stored(3), stored(4))
    assert entries.full
    monkeypatch.setattr(recent_entries, "MAX_RECENT_BYTES", 1)
    entries.append(stored(5))
    assert entries.after(4) == (stored(5),)
