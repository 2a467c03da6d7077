"""The channels of a worker over a real Redis, in this process: what is read, how often, and what members are told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.brokers import running_broker
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from wsd.worker.broker.history import AppendResult, HistoryQuery, Page
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.channels import catch_up
from wsd.worker.channels.channels import Channels
from wsd.worker.channels.feed import Loss
from wsd.worker.channels.joining import Joined
from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.redis_keys import history_key, history_meta_key
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.errors import NotStoredError
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio


@dataclass
class Room:
    """A channel, and the broker below it."""

    broker: RedisMessageBroker
    channels: Channels
    fanout: Fanout

    async def join(self, since: Position | None = None, gives_up_at: float | None = None) -> tuple[Joined, Outbox]:
        outbox = Outbox(Outlet())
        outbox.bind("s", "ann", "Ann")
        joined: list[Joined] = []
        await self.channels.join(
            "room", since, lambda: self.fanout.join(outbox, "room"), joined.append, outbox, gives_up_at
        )
        return joined[0], outbox

    async def publish(self, number: int) -> Position:
        answer: asyncio.Future[AppendResult | NotStoredError | None] = asyncio.get_running_loop().create_future()
        self.channels.publish_soon("room", b'{"n":%d}' % number, "", answer.set_result, None)
        stored = await answer
        assert isinstance(stored, AppendResult)
        return stored.position


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path / "redis", unused_port()) as running:
        yield running


@pytest.fixture
async def room(redis: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    monkeypatch.setattr(catch_up, "CHECK_SECONDS", 0.2)
    async with running_broker("a", redis.url) as (broker, _):
        fanout = Fanout(Outlet())
        made = Room(broker, Channels(broker, fanout, ChannelRules(), timeout=1.0), fanout)
        running = asyncio.create_task(made.channels.run())
        await eventually(lambda: broker.healthy)
        yield made
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_lost_message_without_a_successor_is_found(room: Room) -> None:
    heard: list[dict[str, object]] = []

    async def send_text(text: str) -> None:
        heard.append(json.loads(text))

    _, outbox = await room.join()
    pump = asyncio.create_task(outbox.pump(send_text))
    await room.publish(1)
    await eventually(lambda: [message["n"] for message in heard] == [1])
    # Stored, and never published: as if the message had been lost between Redis and us.
    commands = room.broker.primary._client
    await commands.hset(history_meta_key("room"), "offset", "2")
    await commands.xadd(history_key("room"), {"m": 'another 1 {"n":2}'}, id="2-0")
    await eventually(lambda: [message["n"] for message in heard] == [1, 2])
    assert heard[1]["offset"] == 2
    assert room.channels.repaired == 1
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)


async def test_messages_that_many_clients_missed_are_read_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.join()
    since = await room.publish(0)
    for number in range(1, 21):
        await room.publish(number)
    asked: list[HistoryQuery] = []
    read = room.broker.read

    async def counted(wanted: Sequence[HistoryQuery]) -> list[Page]:
        asked.extend(each for each in wanted if each.since == since.offset)
        return await read(wanted)

    monkeypatch.setattr(room.broker, "read", counted)
    found = await asyncio.gather(*(room.join(since) for _ in range(50)))
    assert [(joined.loss, joined.count) for joined, _ in found] == [(None, 20)] * 50
    assert len(asked) == 1


async def test_a_join_with_a_position_waits_for_redis_and_says_when_that_took_too_long(
    room: Room, redis: Valkey
) -> None:
    since = await room.publish(1)
    redis.freeze()
    room.broker.suspect("it is frozen")
    joined, _ = await room.join(since, gives_up_at=time.monotonic() + 0.3)
    assert joined.loss is Loss.UNAVAILABLE
    waiting = asyncio.create_task(room.join(since))
    redis.thaw()
    joined, _ = await waiting
    assert joined.loss is None
    assert joined.count == 0


async def test_a_channel_without_history_is_ready_once_it_is_subscribed(redis: Valkey) -> None:
    async with running_broker("a", redis.url) as (broker, _):
        made = Channels(broker, Fanout(Outlet()), ChannelRules('{"*": {"history_size": 0}}'), timeout=60.0)
        running = asyncio.create_task(made.run())
        await eventually(lambda: broker.healthy)
        with made.holding("room"):
            async with asyncio.timeout(10):
                await made.wait_until_ready()
                await made.wait_until_ready()
                await made.join("room", None, lambda: None, lambda joined: None, Outbox(Outlet()))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
