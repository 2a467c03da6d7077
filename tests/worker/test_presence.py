"""The members of a channel, on all workers, after joins, clean closes, lost connections, dead workers, a lost Redis."""

import asyncio
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.valkey import server, valkey
from tests.support.waiting import eventually
from tests.support.worker import worker, workers

pytestmark = pytest.mark.anyio


async def members(connection: ClientConnection) -> list[tuple[str, str]]:
    answer = await ask(connection, type="presence", channel="room")
    assert answer["type"] == "presence"
    assert answer["count"] == len(answer["members"])
    return sorted((member["user_id"], member["node_id"]) for member in answer["members"])


async def until_members(connection: ClientConnection, *expected: tuple[str, str]) -> None:
    async with asyncio.timeout(20):
        while await members(connection) != sorted(expected):  # noqa: ASYNC110 - it is another process that changes
            await asyncio.sleep(0.05)


async def test_alone_in_memory(tmp_path: Path) -> None:
    with worker(tmp_path) as alone:
        ann, bob = await alone.connect("ann"), await alone.connect("bob")
        assert await members(ann) == []
        await ask(ann, type="subscribe", channel="room")
        await ask(bob, type="subscribe", channel="room")
        assert await members(bob) == [("ann", "n"), ("bob", "n")]
        await ask(ann, type="unsubscribe", channel="room")
        assert await members(bob) == [("bob", "n")]
        await bob.close()
        await until_members(ann)
        await ann.close()


async def test_presence_names_members_on_all_workers_and_nodes(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        workers(tmp_path, 2, redis_url=url, heartbeat_ttl=1.0) as (one, two),
    ):
        ann, bob, twin = await one.connect("ann"), await two.connect("bob"), await two.connect("bob")
        for connection in (ann, bob, twin):
            await ask(connection, type="subscribe", channel="room")
        everybody = [("ann", "node-1"), ("bob", "node-2"), ("bob", "node-2")]
        await until_members(ann, *everybody)
        await until_members(bob, *everybody)
        answer = await ask(ann, type="presence", channel="room")
        assert set(answer["members"][0]) == {"user_id", "username", "node_id", "worker_id", "client"}
        await ask(twin, type="unsubscribe", channel="room")
        await until_members(ann, ("ann", "node-1"), ("bob", "node-2"))
        bob.transport.abort()  # without a close frame
        await until_members(ann, ("ann", "node-1"))
        answer = await ask(ann, type="presence", channel="no such name!")
        assert answer["code"] == "invalid_channel"
        await ann.close()
        await twin.close()


async def test_a_dead_workers_members_are_gone_with_its_heartbeat(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        workers(tmp_path, 2, redis_url=url, heartbeat_ttl=1.0) as (one, two),
    ):
        ann = await one.connect("ann")
        await ask(ann, type="subscribe", channel="room")
        others = await asyncio.gather(*(two.connect(f"user-{number}") for number in range(50)))
        await asyncio.gather(*(ask(other, type="subscribe", channel="room") for other in others))
        await until_members(ann, ("ann", "node-1"), *((f"user-{number}", "node-2") for number in range(50)))
        two.process.send_signal(signal.SIGKILL)
        await until_members(ann, ("ann", "node-1"))
        await ann.close()


async def test_presence_is_written_again_to_an_emptied_redis(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        workers(tmp_path, 2, redis_url=redis.url, heartbeat_ttl=1.0) as (one, two),
    ):
        ann, bob, leaver = await one.connect("ann"), await two.connect("bob"), await two.connect("leaver")
        for connection in (ann, bob, leaver):
            await ask(connection, type="subscribe", channel="room")
        everybody = [("ann", "node-1"), ("bob", "node-2"), ("leaver", "node-2")]
        await until_members(ann, *everybody)
        redis.kill()
        await eventually(lambda: two.health()[1]["status"] == "degraded")
        assert await members(bob) == [("bob", "node-2"), ("leaver", "node-2")], "this worker's own, meanwhile"
        await leaver.close()
        redis.start()
        await until_members(ann, ("ann", "node-1"), ("bob", "node-2"))
        await until_members(bob, ("ann", "node-1"), ("bob", "node-2"))
        await ann.close()
        await bob.close()
