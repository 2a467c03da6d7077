"""What `wsd tail` shows of the pages that it reads."""

from typing import Any

from wsd.publisher import History
from wsd.supervisor.cli.channel_follower import LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS, ChannelFollower


def page(top: int, *offsets: int, epoch: str = "one") -> History:
    return History("room", top, epoch, tuple({"offset": offset} for offset in offsets))


def offsets(messages: list[dict[str, Any]]) -> list[int]:
    return [message["offset"] for message in messages]


def follower_at(offset: int) -> ChannelFollower:
    follower = ChannelFollower()
    follower.first(page(offset), 0)
    return follower


def test_it_begins_with_the_last_messages_the_oldest_first() -> None:
    assert offsets(ChannelFollower().first(page(7, 7, 6, 5), 2)) == [6, 7]
    assert offsets(ChannelFollower().first(page(7, 7), 0)) == []


def test_it_goes_on_after_the_newest_message() -> None:
    follower = follower_at(7)
    assert follower.since == 7
    assert offsets(follower.next(page(9, 8, 9))) == [8, 9]
    assert (follower.since, follower.lost) == (9, 0)


def test_it_asks_at_once_for_the_rest_of_a_long_history() -> None:
    follower = follower_at(0)
    follower.next(page(9, 1, 2))
    assert (follower.since, follower.pause) == (2, 0.0)


def test_its_pauses_grow_while_nothing_comes() -> None:
    follower = follower_at(1)
    follower.next(page(2, 2))
    assert follower.pause == SHORTEST_PAUSE_SECONDS
    follower.next(page(2))
    assert follower.pause > SHORTEST_PAUSE_SECONDS
    for _ in range(20):
        follower.next(page(2))
    assert follower.pause == LONGEST_PAUSE_SECONDS


def test_it_counts_what_the_history_no_longer_has() -> None:
    follower = follower_at(3)
    assert offsets(follower.next(page(9, 8, 9))) == [8, 9]
    assert follower.lost == 4
    assert follower.next(page(9)) == []
    assert follower.lost == 0
    assert follower.next(page(12)) == []
    assert (follower.lost, follower.since) == (3, 12)


def test_it_reads_a_new_epoch_from_its_beginning() -> None:
    follower = follower_at(30)
    assert follower.next(page(40, 31, epoch="two")) == []
    assert (follower.since, follower.began_anew, follower.pause) == (0, True, 0.0)
    assert offsets(follower.next(page(2, 1, 2, epoch="two"))) == [1, 2]
    assert (follower.began_anew, follower.lost) == (False, 0)


def test_the_first_message_of_a_channel_is_no_loss() -> None:
    follower = ChannelFollower()
    follower.first(page(0, epoch=""), 10)
    assert follower.next(page(1, 1)) == []
    assert not follower.began_anew
    assert offsets(follower.next(page(1, 1))) == [1]
