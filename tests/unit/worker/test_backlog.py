"""Messages that wait for a slow client: their order, their limit, and which of them are dropped."""

import json
from typing import Any

import pytest

from wsd.worker.delivery.backlog import Backlog
from wsd.worker.delivery.batch import Batch, Message, SlowReaders
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.wire.position import Position

LIMIT = 1000


def message(content: Any, offset: int = 0) -> Message:
    return Message(json.dumps(content).encode(), Position(offset, "e") if offset else None)


def batch(policy: SlowReaders, numbers: range, channel: str = "c") -> Batch:
    return Batch(channel, policy, [message(number, number) for number in numbers])


def taken(backlog: Backlog, max_bytes: int = 1_000_000) -> list[Any]:
    return [json.loads(m.payload) for item in backlog.take(max_bytes, HUB) for m in item.messages]


def test_a_backlog_is_taken_in_order_with_the_welcome_first() -> None:
    backlog = Backlog(LIMIT)
    assert backlog.add(message(1))
    assert backlog.add(batch("close_and_resume", range(2, 4)))
    backlog.add_missed(batch("close_and_resume", range(4, 6)))
    assert backlog.add(message(6))
    backlog.add_first(message(0))
    assert taken(backlog) == [0, 1, 2, 3, 4, 5, 6]
    assert not backlog
    assert backlog.bytes == 0


def test_a_backlog_is_taken_in_parts_of_some_bytes() -> None:
    backlog = Backlog(LIMIT)
    for number in range(10):
        backlog.add(message("x" * 50 + str(number)))
    assert len(backlog.take(110, HUB)) == 2
    assert len(backlog.take(1, HUB)) == 1
    assert len(backlog.take(LIMIT, HUB)) == 7
    assert backlog.take(LIMIT, HUB) == []


def test_more_than_the_limit_is_refused() -> None:
    backlog = Backlog(LIMIT)
    while backlog.bytes + 102 <= LIMIT:
        assert backlog.add(message("x" * 98))
    assert not backlog.add(message("x" * 98))


def test_missed_messages_do_not_count_against_the_limit() -> None:
    backlog = Backlog(LIMIT)
    backlog.add_missed(batch("close_and_resume", range(1, 2000)))
    assert backlog.add(message("now"))
    assert taken(backlog)[-1] == "now"
    assert backlog.bytes == 0


def test_only_the_latest_message_of_a_conflated_channel_waits() -> None:
    backlog = Backlog(LIMIT)
    backlog.add(message("before"))
    for number in range(1, 5001):
        assert backlog.add(batch("conflate", range(number, number + 1)))
    assert backlog.add(batch("conflate", range(1, 3), channel="d"))
    backlog.add(message("after"))
    assert taken(backlog) == ["before", 5000, 2, "after"]
    assert backlog.dropped == 5000
    assert backlog.add(batch("conflate", range(7, 8)))
    assert taken(backlog) == [7]
    assert backlog.bytes == 0


def test_the_oldest_messages_are_dropped_and_their_gap_is_reported() -> None:
    backlog = Backlog(300)
    backlog.add(message("before"))
    assert backlog.add(batch("drop_oldest", range(1, 501)))
    assert backlog.bytes <= 300
    before, gap, *rest = taken(backlog)
    assert before == "before"
    assert gap == {"type": "gap", "channel": "c", "reason": "slow_reader", "offset": rest[0] - 1, "epoch": "e"}
    assert rest == list(range(rest[0], 501))
    assert backlog.dropped == rest[0] - 1
    assert backlog.bytes == 0


def test_a_second_gap_is_reported_after_the_first_was_taken() -> None:
    backlog = Backlog(300)
    backlog.add(batch("drop_oldest", range(1, 201)))
    first = taken(backlog, 0)
    assert first[0]["type"] == "gap"
    backlog.add(batch("drop_oldest", range(201, 401)))
    rest = taken(backlog)
    gaps = [each for each in rest if isinstance(each, dict)]
    assert len(gaps) == 1
    assert gaps[0]["offset"] == next(each for each in rest if isinstance(each, int)) - 1


def test_a_backlog_that_is_never_taken_stays_bounded() -> None:
    backlog = Backlog(300)
    for number in range(1, 20_001):
        assert backlog.add(batch("drop_oldest", range(number, number + 1)))
    assert len(backlog._queue) < 200


@pytest.mark.parametrize("policy", ["conflate", "drop_oldest"])
def test_channels_do_not_push_each_other_out(policy: SlowReaders) -> None:
    backlog = Backlog(300)
    backlog.add(batch(policy, range(1, 2), channel="quiet"))
    for number in range(1, 500):
        backlog.add(batch(policy, range(number, number + 1), channel="loud"))
    assert taken(backlog)[0] == 1


def test_a_batch_that_fits_only_without_direct_messages_is_too_much() -> None:
    backlog = Backlog(100)
    backlog.add(message("x" * 90))
    assert not backlog.add(Batch("c", "drop_oldest", [message("y" * 90, 1)]))


def test_messages_without_a_position_are_not_dropped() -> None:
    backlog = Backlog(LIMIT)
    assert backlog.add(Batch("c", "conflate", [message(1), message(2)]))
    assert taken(backlog) == [1, 2]
