"""The search for what a client has missed: in memory, in the history, or the reason why it is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.brokers import Received
from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import HistoryQuery, Page, offset_of
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.channels.catch_up import CatchUp
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.feed import Loss
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.channels.recovery import Missed, Recovery
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio


class Broker(InMemoryMessageBroker):
    """Counts what is read, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.reads: list[int | None] = []  # the offsets after which was read

    def lose(self, channel: Channel) -> None:
        del self._histories[channel.key]

    async def read(self, queries: Sequence[HistoryQuery]) -> list[Page]:
        if self.away:
            raise RedisUnavailableError("away")
        self.reads += [query.since for query in queries]
        return await super().read(queries)


class Reader:
    """One channel that is kept up to date, and the recovery of its clients."""

    def __init__(self, history_size: int) -> None:
        self.broker = Broker()
        self.broker.listener = Received()
        self.channel = Channel("room", ChannelOptions(history_size=history_size), SeenMessages())
        members = MemberMessages(Fanout(Outlet()))
        self.catch_up = CatchUp(self.broker, {"room": self.channel}, members, 5.0)
        self.recovery = Recovery(self.broker, self.catch_up)

    def publish(self, count: int) -> None:
        """Store messages that the feed does not receive."""
        for _ in range(count):
            self.broker.append_soon(self.channel.key, b"{}", self.channel.retention, lambda result: None)

    async def catch_up_now(self) -> None:
        self.catch_up.check_all()
        await self.catch_up.wait_until_all_are_ready()

    @property
    def position(self) -> Position:
        assert self.channel.feed is not None
        assert self.channel.feed.position is not None
        return self.channel.feed.position

    async def missed_since(self, offset: int, epoch: str = "") -> list[int] | Loss:
        since = Position(offset, epoch or self.position.epoch)
        found = await self.recovery.find(self.channel, since, time.monotonic())
        return [offset_of(entry) for entry in found.entries] if isinstance(found, Missed) else found

    async def newest(self, count: int) -> list[int] | Loss:
        found = await self.recovery.find(self.channel, count, time.monotonic())
        if isinstance(found, Loss):
            return found
        offsets = [offset_of(entry) for entry in found.entries]
        assert offsets == list(range(found.since.offset + 1, self.position.offset + 1))
        return offsets


@asynccontextmanager
async def reader(history_size: int = 5) -> AsyncIterator[Reader]:
    found = Reader(history_size)
    running = asyncio.create_task(found.catch_up.run())
    await found.catch_up_now()
    yield found
    found.channel.shared.cancel()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_client_gets_what_it_missed_as_far_as_the_history_reaches() -> None:
    async with reader(history_size=5) as one:
        one.publish(8)
        await one.catch_up_now()
        assert one.position.offset == 8
        assert await one.missed_since(8) == []
        assert await one.missed_since(5) == [6, 7, 8]
        assert await one.missed_since(3) == [4, 5, 6, 7, 8]
        assert await one.missed_since(5, "another") is Loss.EPOCH_CHANGED


async def test_a_client_that_missed_more_than_the_history_holds_is_told() -> None:
    async with reader(history_size=5) as one:
        one.publish(8)
        await one.catch_up_now()
        assert await one.missed_since(2) is Loss.TRIMMED


async def test_the_reason_is_the_same_when_another_client_came_back_before() -> None:
    async with reader(history_size=5) as one:
        one.publish(8)
        await one.catch_up_now()
        assert await one.missed_since(3) == [4, 5, 6, 7, 8]
        assert await one.missed_since(2) is Loss.TRIMMED


async def test_a_client_that_is_ahead_of_the_worker_waits_until_the_worker_has_caught_up() -> None:
    async with reader() as one:
        one.publish(3)
        assert one.position.offset == 0
        assert await one.missed_since(2) == [3]
        assert one.position.offset == 3
        assert one.catch_up.repaired == 3
        assert await one.missed_since(4) is Loss.EPOCH_CHANGED  # this history never had its messages


async def test_clients_that_come_back_together_share_what_was_read() -> None:
    async with reader() as one:
        one.publish(4)
        await one.catch_up_now()
        one.broker.reads.clear()
        assert await one.missed_since(1) == [2, 3, 4]
        assert await one.missed_since(1) == [2, 3, 4]
        assert await one.missed_since(2) == [3, 4]
        assert one.broker.reads == [1]


async def test_a_channel_without_a_history_recovers_nothing() -> None:
    async with reader(history_size=0) as one:
        assert await one.missed_since(1, "e") is Loss.NO_HISTORY


async def test_a_client_is_told_when_redis_does_not_come_back_in_time() -> None:
    async with reader() as one:
        one.publish(2)
        await one.catch_up_now()
        one.broker.away = True
        assert await one.missed_since(0) is Loss.UNAVAILABLE
        one.broker.away = False
        assert await one.missed_since(0) == [1, 2]


async def test_a_channel_is_ready_although_redis_is_away_and_is_read_when_it_is_back() -> None:
    async with reader() as one:
        one.broker.away = True
        one.publish(2)
        await one.catch_up_now()
        assert one.channel.ready.is_set()
        assert one.position.offset == 0
        one.broker.away = False
        await one.catch_up_now()
        assert one.position.offset == 2


@pytest.mark.parametrize(
    ("published", "count", "expected"),
    [
        (0, 3, []),
        (8, 3, [6, 7, 8]),
        (8, 5, [4, 5, 6, 7, 8]),
        (8, 6, [4, 5, 6, 7, 8]),  # the history keeps five
        (8, 1000, [4, 5, 6, 7, 8]),
        (2, 5, [1, 2]),
    ],
)
async def test_the_newest_messages_are_those_that_the_history_has(
    published: int, count: int, expected: list[int]
) -> None:
    async with reader(history_size=5) as one:
        one.publish(published)
        await one.catch_up_now()
        for _ in range(2):  # from the history, and then from memory
            assert await one.newest(count) == expected


async def test_clients_that_ask_for_the_newest_messages_together_share_what_was_read() -> None:
    async with reader() as one:
        one.publish(8)
        await one.catch_up_now()
        one.broker.reads.clear()
        assert [await one.newest(count) for count in (3, 3, 2, 100, 5)] == [
            [6, 7, 8],
            [6, 7, 8],
            [7, 8],
            [4, 5, 6, 7, 8],
            [4, 5, 6, 7, 8],
        ]
        assert one.broker.reads == [5, 0]


async def test_the_newest_messages_are_those_of_an_epoch_that_has_just_begun() -> None:
    async with reader() as one:
        one.publish(8)
        await one.catch_up_now()
        before = one.position.epoch
        one.broker.lose(one.channel)
        one.publish(2)
        assert await one.newest(3) == [1, 2]
        assert one.position.epoch != before


async def test_no_newest_messages_are_found_while_redis_is_away() -> None:
    async with reader() as one:
        one.publish(2)
        await one.catch_up_now()
        one.broker.away = True
        assert await one.newest(2) is Loss.UNAVAILABLE
        one.broker.away = False
        assert await one.newest(2) == [1, 2]
        one.broker.away = True
        assert await one.newest(2) == [1, 2], "they are in memory now"


async def test_a_channel_without_a_history_has_no_newest_messages() -> None:
    async with reader(history_size=0) as one:
        assert await one.newest(2) is Loss.NO_HISTORY
