"""The network between a client and a stand-in for the hub: each of its faults is seen by both ends."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.client import connect as connect_sync

from tests.support.hub_client import ask, close_of, receive
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.network import Network
from tests.support.tcp_proxy import Way
from tests.support.waiting import eventually, long_run

pytestmark = [pytest.mark.anyio, long_run]


@pytest.fixture
async def hub() -> AsyncIterator[MisbehavingHub]:
    async with MisbehavingHub() as running:
        yield running


async def welcomed(network: Network) -> ClientConnection:
    connection = await connect(network.url, ping_interval=None, close_timeout=0.1)
    assert (await receive(connection))["type"] == "welcome"
    return connection


async def is_answered(connection: ClientConnection, seconds: float = 0.3) -> bool:
    """Return whether the hub answers a ping within some seconds."""
    try:
        async with asyncio.timeout(seconds):
            return bool((await ask(connection, type="ping"))["type"] == "pong")
    except TimeoutError:
        return False


async def test_a_latency_is_of_each_way_and_holds_up_no_other_message(hub: MisbehavingHub) -> None:
    async with Network(hub.port, latency=0.2) as network:
        connection = await welcomed(network)
        began = time.monotonic()
        await ask(connection, type="ping")
        assert 0.4 <= time.monotonic() - began < 0.8
        began = time.monotonic()
        for number in range(20):
            await connection.send(f'{{"type": "ping", "id": {number}}}')
            await asyncio.sleep(0.01)
        for _ in range(20):
            await receive(connection)
        assert time.monotonic() - began < 2  # one after the other they would take eight seconds
        network.set_line(Way.UP, latency=0.0)
        began = time.monotonic()
        await ask(connection, type="ping")
        assert 0.2 <= time.monotonic() - began < 0.4


@pytest.mark.parametrize("limited", [Way.UP, Way.DOWN])
async def test_a_bandwidth_is_limited(hub: MisbehavingHub, limited: Way) -> None:
    async with Network(hub.port) as network:
        connection = await welcomed(network)
        network.set_line(limited, bytes_per_second=50_000)
        took = {}
        for way in Way:
            began = time.monotonic()
            if way is Way.UP:
                await ask(connection, type="publish", channel="room", data="x" * 25_000)
            else:
                await ask(connection, type="history", channel="room")
            took[way] = time.monotonic() - began
        assert 0.4 < took[limited] < 2
        assert min(took.values()) < 0.3


async def test_a_deaf_network_passes_nothing_and_closes_nothing(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        old = await welcomed(network)
        network.go_deaf()
        assert not await is_answered(old)
        assert hub.records.heard == []
        assert await is_answered(await welcomed(network))  # a new connection is served
        await old.close()  # it gives up after its timeout
        hub.close(1012, 1)
        assert await is_answered(await welcomed(network))
        assert hub.records.ended == []
        network.heal()  # now each end hears that the other one is gone
        await eventually(lambda: any(each.number == 1 for each in hub.records.ended))


async def test_new_connections_to_a_deaf_network_are_opened_and_hear_nothing(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        old = await welcomed(network)
        network.go_deaf(new_ones_too=True)
        opening = asyncio.create_task(welcomed(network))
        await eventually(lambda: len(network.links) == 2)
        assert not await is_answered(old)
        assert not opening.done()
        network.heal()
        assert await is_answered(await opening)
        assert len(hub.records.heard) == 2  # what was said to the deaf network arrives after all
        assert await is_answered(old)


@pytest.mark.parametrize("way", Way)
async def test_one_direction_is_mute(hub: MisbehavingHub, way: Way) -> None:
    async with Network(hub.port) as network:
        connection = await welcomed(network)
        await ask(connection, type="subscribe", channel="room")
        network.mute(way)
        assert not await is_answered(connection)
        assert [each["type"] for each in hub.records.requests()] == ["subscribe", "ping"][: 1 + (way is Way.DOWN)]
        hub.publish("room", 1)
        if way is Way.UP:
            assert (await receive(connection))["data"] == 1
        network.heal()
        if way is Way.DOWN:
            assert [(await receive(connection))["type"] for _ in range(2)] == ["pong", "message"]


async def test_all_connections_are_cut(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        both = [await welcomed(network), await welcomed(network)]
        network.cut()
        for connection in both:
            assert (await close_of(connection))[0] == 1006
        await eventually(lambda: len(hub.records.ended) == 2)
        assert {each.code for each in hub.records.ended} == {1006}
        assert await is_answered(await welcomed(network))


async def test_a_network_is_offline_for_a_while(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        connection = await welcomed(network)
        network.go_offline()
        assert (await close_of(connection))[0] == 1006
        with pytest.raises(ConnectionRefusedError):
            await welcomed(network)
        network.go_online()
        assert await is_answered(await welcomed(network))


async def test_what_a_client_says_after_its_handshake_is_held(hub: MisbehavingHub) -> None:
    hub.resume_seconds = 0.2
    async with Network(hub.port) as network:
        network.hold_after_handshake(2, 0.5)
        resume = '{"type": "resume", "token": "x"}'
        for code in (None, 4408):
            connection = await connect(f"{network.url}?resume=1", ping_interval=None)
            await connection.send(resume)
            if code is None:
                assert (await receive(connection))["type"] == "welcome"
            else:
                assert (await close_of(connection))[0] == code
        assert await is_answered(await welcomed(network))


async def test_the_end_of_a_connection_passes_as_it_is(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        one, two, three = [await welcomed(network) for _ in range(3)]
        await one.close(4123, "of the client")
        hub.close(1013, 2)
        hub.close(1006, 3)
        assert (await close_of(two))[0] == 1013
        assert (await close_of(three))[0] == 1006
        await eventually(lambda: len(hub.records.ended) == 3)
        assert {each.number: each.code for each in hub.records.ended} == {1: 4123, 2: 1013, 3: 1006}
        await eventually(lambda: network.open_links == [])


async def test_a_client_of_a_server_that_is_down_is_reset(hub: MisbehavingHub) -> None:
    async with Network(hub.port) as network:
        hub.close_port()
        with pytest.raises((OSError, InvalidMessage)):
            await welcomed(network)
        hub.open_port()
        assert await is_answered(await welcomed(network))


def test_a_test_without_an_event_loop_commands_it_from_its_thread() -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network, connect_sync(network.url) as connection:
        connection.recv(10)
        network.go_deaf()
        connection.send('{"type": "ping"}')
        with pytest.raises(TimeoutError):
            connection.recv(0.3)
        network.heal()
        assert connection.recv(10) == '{"type":"pong"}'
        network.go_offline()
        with pytest.raises(ConnectionClosed):
            connection.recv(10)
        with pytest.raises(ConnectionRefusedError):
            connect_sync(network.url)
