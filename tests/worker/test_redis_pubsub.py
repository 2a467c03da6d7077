"""The sending and the receiving half of a worker's traffic with one Redis, each by itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop
from redis import Redis as SyncRedis

from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from wsd.worker.broker.history import Retention
from wsd.worker.broker.redis_publisher import RedisPublisher
from wsd.worker.broker.redis_subscriber import RedisSubscriber
from wsd.worker.broker.spool import Outgoing
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.errors import RedisFailure, RedisUnavailableError
from wsd.worker.redis_client import Redis, open_redis, redis_errors

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    async with open_redis(url, connect_timeout=1, timeout=2) as client:
        yield client


@asynccontextmanager
async def sending(publisher: RedisPublisher) -> AsyncIterator[list[str]]:
    """Let a publisher send, and keep what it reports as failures."""
    failures: list[str] = []
    task = asyncio.create_task(publisher.send_waiting(failures.append))
    try:
        yield failures
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def message(number: int, channel: str = "c") -> Outgoing:
    return Outgoing(number, channel, b"origin %d text" % number)


async def test_a_publisher_that_gives_up_reports_every_message_that_waits(client: Redis) -> None:
    publisher = RedisPublisher(client, 1.0, stores=True)
    waiting = [asyncio.create_task(publisher.publish(message(number))) for number in (1, 2)]
    await asyncio.sleep(0)
    publisher.give_up("the server is gone")
    for publish in waiting:
        with pytest.raises(RedisUnavailableError, match="the server is gone"):
            await publish


async def test_a_message_that_cannot_be_sent_fails_alone(client: Redis) -> None:
    publisher = RedisPublisher(client, 1.0, stores=True)
    async with sending(publisher) as failures:
        first, unsent, last = await publisher.publish_all([message(1), message(2, "\ud800"), message(3)])
    assert (first, last, failures) == (None, None, [])
    assert isinstance(unsent, RedisUnavailableError)
    assert unsent.rejected


async def test_a_publisher_knows_what_it_has_just_sent_with_its_position(client: Redis) -> None:
    publisher = RedisPublisher(client, 1.0, stores=True)
    kept = Outgoing(2, channel_key("kept"), b"origin 2 text", Retention(10, 60.0))
    async with sending(publisher):
        await publisher.publish(message(1))
        stored = await publisher.publish(kept)
    assert stored is not None
    assert [(sent.number, sent.position) for sent in publisher.just_sent(0.0)] == [(1, None), (2, stored[0])]


async def test_a_publisher_without_histories_only_publishes(client: Redis) -> None:
    publisher = RedisPublisher(client, 1.0, stores=False)
    async with sending(publisher):
        assert await publisher.publish(Outgoing(1, channel_key("none"), b"origin 1 text", Retention(10, 60.0))) is None


async def test_a_subscriber_receives_probes_and_messages_until_its_connection_is_closed(
    url: str, client: Redis
) -> None:
    received: list[tuple[str, bytes]] = []
    async with open_redis(url, connect_timeout=1, timeout=None) as listening:
        subscriber = RedisSubscriber("Redis", listening, "own", 1.0)
        await subscriber.subscribe(["early"], confirm=False)
        subscribed = asyncio.Event()
        receiving = asyncio.create_task(
            subscriber.receive(lambda channel, text: received.append((channel, text)), subscribed.set)
        )
        await subscriber.wait_until_ready()
        assert subscribed.is_set()
        await subscriber.subscribe(["late"], confirm=True)
        await subscriber.unsubscribe(["early"])
        for channel in ("early", "late"):
            await client.publish(channel, b"text")
        with subscriber.expecting(b"- hear 1") as probe:
            await client.publish("own", b"- hear 1")
            await asyncio.wait_for(probe.wait(), 5)
        await eventually(lambda: received == [("late", b"text")])
        await subscriber.reconnect()
        with pytest.raises(RedisUnavailableError):
            await receiving


async def test_a_subscriber_leaves_a_lost_connection_to_the_one_that_receives(url: str, client: Redis) -> None:
    async with open_redis(url, connect_timeout=1, timeout=None) as listening:
        subscriber = RedisSubscriber("Redis", listening, "own", 1.0)
        receiving = asyncio.create_task(subscriber.receive(lambda channel, text: None, lambda: None))
        await subscriber.wait_until_ready()
        await subscriber.subscribe(["early"], confirm=True)
        await subscriber.reconnect()
        await subscriber.subscribe(["late"], confirm=True)  # before `receive` has noticed
        await subscriber.unsubscribe(["early"])
        with pytest.raises(RedisUnavailableError):
            await receiving
        subscriber.forget_connection()
        with SyncRedis.from_url(url) as seen:
            await eventually(lambda: seen.pubsub_channels() == [], "that nothing is subscribed")
        receiving = asyncio.create_task(subscriber.receive(lambda channel, text: None, lambda: None))
        await eventually(lambda: subscriber.subscribed)
        assert set(await client.pubsub_channels()) == {b"late", b"own"}
        receiving.cancel()
        with suppress(asyncio.CancelledError):
            await receiving


def test_a_command_on_a_connection_that_was_closed_beneath_it_says_that_redis_is_away(url: str) -> None:
    async def send() -> None:
        async with open_redis(url, connect_timeout=1, timeout=2) as client:
            connection: Any = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
            connection._writer.transport.abort()
            async with redis_errors():
                await connection.send_command("PING")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RedisUnavailableError) as raised:
        runner.run(send())
    assert raised.value.failure is RedisFailure.NO_ANSWER
