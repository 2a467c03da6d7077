"""Batches of messages: sealing them, and leaving out what will be read from a history."""

from wsd.worker.delivery.batch import Batch, Item, Message, without_channels
from wsd.worker.wire.position import Position


def message(number: int, *, numbered: bool = True) -> Message:
    return Message(str(number).encode(), Position(number, "e") if numbered else None)


def contents(items: list[Item]) -> list[list[bytes]]:
    return [[message.payload for message in item.messages] for item in items]


def test_the_frame_of_a_batch_is_that_of_its_messages_and_seals_it() -> None:
    batch = Batch("c", "close_and_resume", [message(1), message(2)])
    assert batch.open
    assert batch.sealed() == b"\x81\x011\x81\x012"
    assert not batch.open


def test_messages_of_other_channels_and_single_messages_are_kept() -> None:
    single, other = message(1), Batch("other", "close_and_resume", [message(2)])
    assert without_channels([single, other], {"c"}) == [single, other]
    assert other.open


def test_messages_with_a_position_are_left_out() -> None:
    assert without_channels([Batch("c", "close_and_resume", [message(1), message(2)])], {"c"}) == []


def test_messages_without_a_position_are_kept_with_their_rule() -> None:
    batch = Batch("c", "drop_oldest", [message(1), message(2, numbered=False), message(3), message(4, numbered=False)])
    kept = without_channels([message(0), batch, message(5)], {"c"})
    assert contents(kept) == [[b"0"], [b"2", b"4"], [b"5"]]
    assert isinstance(kept[1], Batch)
    assert (kept[1].channel, kept[1].policy) == ("c", "drop_oldest")


def test_a_batch_that_was_left_out_takes_no_further_message() -> None:
    batch = Batch("c", "close_and_resume", [message(1)])
    without_channels([batch], {"c"})
    assert not batch.open
