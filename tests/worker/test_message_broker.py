"""The interface of brokers, in memory and over Redis, which must hold through the loss of the server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.brokers import Received, running_broker
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.broker.message_broker import MessageBroker

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[tuple[MessageBroker, Received]]]  # name, server URL, how many there are


@pytest.fixture
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Return a function that runs a broker and keeps what it receives. `memory` has one process, so one broker."""
    async with AsyncExitStack() as stack:

        async def running(name: str, server: str = "", workers: int = 0) -> tuple[MessageBroker, Received]:
            if request.param == "redis":
                url = server or request.getfixturevalue("redis_url")
                return await stack.enter_async_context(running_broker(name, url, workers=lambda: workers))
            received = Received()
            broker = InMemoryMessageBroker()
            broker.listener = received
            task = asyncio.create_task(broker.run())
            await asyncio.sleep(0)  # it runs
            stack.callback(task.cancel)
            return broker, received

        yield running


both = pytest.mark.parametrize("make", ["memory", "redis"], indirect=True)
redis = pytest.mark.parametrize("make", ["redis"], indirect=True)


async def subscribed(broker: MessageBroker, *channels: str) -> None:
    for channel in channels:
        await broker.subscribe(channel)
    await eventually(lambda: broker.healthy)


async def test_a_message_that_is_published_before_the_broker_runs_is_received() -> None:
    broker, received = InMemoryMessageBroker(), Received()
    broker.listener = received
    await broker.subscribe("early")
    assert await broker.publish("early", b"message")
    assert received.messages == [("early", b"message")]


@both
async def test_a_publisher_receives_its_own_messages_in_order(make: Make) -> None:
    broker, received = await make("a")
    await subscribed(broker, "in-order")
    for number in range(100):
        assert await broker.publish("in-order", b"%d" % number)
    await eventually(lambda: len(received.messages) == 100)
    assert received.messages == [("in-order", b"%d" % number) for number in range(100)]


@both
async def test_only_subscribed_channels_are_received(make: Make) -> None:
    broker, received = await make("a")
    await subscribed(broker, "one", "two")
    await broker.unsubscribe("two")
    for channel in ("two", "three", "one"):
        assert await broker.publish(channel, b"x")
    await eventually(lambda: ("one", b"x") in received.messages)
    assert received.messages == [("one", b"x")]


@both
async def test_payloads_are_bytes_of_any_kind(make: Make) -> None:
    broker, received = await make("a")
    await subscribed(broker, "any")
    payload = bytes(range(256)) * 300
    await broker.publish("any", payload)
    await broker.publish("any", payload[::-1])
    await eventually(lambda: len(received.messages) == 2)
    assert received.messages == [("any", payload), ("any", payload[::-1])]


@redis
async def test_all_brokers_of_a_channel_receive_its_messages(make: Make) -> None:
    brokers = [await make(name) for name in "abc"]
    for broker, _ in brokers:
        await subscribed(broker, "all")
    await brokers[0][0].publish("all", b"hello")
    for _, received in brokers:
        await eventually(lambda received=received: received.messages == [("all", b"hello")])  # type: ignore[misc]


@redis
async def test_without_its_server_it_delivers_here_and_comes_back_by_itself(make: Make, tmp_path: Path) -> None:
    port = unused_port()
    with valkey(tmp_path / "first", port) as server:
        a, received_by_a = await make("a", server, workers=2)
        b, received_by_b = await make("b", server, workers=2)
        await subscribed(a, "c")
        await subscribed(b, "c")
    await eventually(lambda: not a.healthy and not b.healthy)
    assert await a.publish("c", b"local") is False
    assert (received_by_a.messages, received_by_b.messages) == ([("c", b"local")], [])
    with valkey(tmp_path / "second", port):
        await eventually(lambda: a.healthy and b.healthy)
        await a.publish("c", b"back")
        for received in (received_by_a, received_by_b):
            await eventually(lambda received=received: received.messages == [("c", b"local"), ("c", b"back")])  # type: ignore[misc]
        await eventually(lambda: not a.statistics.spooled)
        assert await a.publish("c", b"direct") is True


@redis
async def test_a_broker_starts_without_its_server(make: Make) -> None:
    broker, received = await make("a", f"redis://127.0.0.1:{unused_port()}")
    await broker.subscribe("c")
    assert not broker.healthy
    assert await broker.publish("c", b"local") is False
    assert received.messages == [("c", b"local")]


@redis
async def test_a_broker_that_comes_back_under_its_name_is_received(make: Make, redis_url: str) -> None:
    listener, received = await make("listener")
    await subscribed(listener, "c")
    for life in (b"first", b"second"):
        async with running_broker("named", redis_url) as (broker, _):
            await eventually(lambda: broker.healthy)
            for _ in range(3):
                assert await broker.publish("c", life)
    await eventually(lambda: len(received.messages) == 6)
