"""Messages survive a Redis that restarts, is emptied, fills up or turns read-only, or their loss is known."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import ask, receive
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


async def member(of: Worker, user_id: str) -> tuple[ClientConnection, dict[str, Any]]:
    """Connect a client and join the channel `room`. Return the connection, and its position in the channel."""
    connection = await of.connect(user_id)
    await connection.send('{"type": "subscribe", "channel": "room"}')
    state = await receive(connection)
    return connection, {"offset": state["offset"], "epoch": state["epoch"]}


async def publish(connection: ClientConnection, data: object) -> dict[str, Any]:
    return await ask(connection, type="publish", channel="room", data=data)


async def next_of(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while (message := await receive(connection))["type"] != kind:
        pass
    return message


async def restart(redis: Valkey, serving: Worker) -> None:
    redis.kill()
    await eventually(lambda: serving.health()[1]["status"] == "degraded")
    redis.start()
    await eventually(lambda: serving.health()[1]["status"] == "healthy")


async def test_a_killed_server_with_an_append_only_file_loses_nothing_that_was_acked(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port(), "--appendonly", "yes", "--appendfsync", "everysec") as redis,
        worker(tmp_path, redis_url=redis.url, messages_per_second=0.0, bytes_per_second=0.0) as serving,
    ):
        (ann, since), source = await member(serving, "ann"), await serving.connect("source")
        acked = [await publish(source, number) for number in range(300)]
        assert all(ack["durable"] for ack in acked)
        await restart(redis, serving)
        page = await ask(source, type="history", channel="room", limit=500)
        assert [message["data"] for message in page["messages"]] == list(range(300))
        assert page["epoch"] == since["epoch"]
        assert (await publish(source, "on"))["offset"] == 301
        heard = [(await next_of(ann, "message"))["data"] for _ in range(301)]
        assert heard == [*range(300), "on"]


async def test_an_emptied_redis_begins_another_epoch_and_all_members_are_told(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url) as serving,
    ):
        (ann, since), source = await member(serving, "ann"), await serving.connect("source")
        await publish(source, 1)
        assert (await next_of(ann, "message"))["data"] == 1
        bob, _ = await member(serving, "bob")
        bob.transport.abort()
        await restart(redis, serving)
        gap = await next_of(ann, "gap")
        assert (gap["channel"], gap["reason"]) in [(name, "epoch_changed") for name in ("room", "broadcast", "direct")]
        ack = await publish(source, 2)
        assert ack["epoch"] != since["epoch"]
        assert (await next_of(ann, "message"))["data"] == 2
        back = await serving.connect("bob")
        request = {"type": "subscribe", "channel": "room", "since": {"offset": 1, "epoch": since["epoch"]}}
        await back.send(json.dumps(request))
        state = await next_of(back, "subscribed")
        assert not state["recovered"]
        assert state["reason"] == "epoch_changed"


async def test_a_message_published_without_redis_is_acked_again_once_it_is_stored(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url) as serving,
    ):
        (ann, _), source = await member(serving, "ann"), await serving.connect("source")
        redis.kill()
        await eventually(lambda: serving.health()[1]["status"] == "degraded")
        first = await publish(source, "hi")
        assert first == {"type": "ack", "id": first["id"], "durable": False}
        early = await next_of(ann, "message")
        assert early["data"] == "hi"
        assert "offset" not in early
        redis.start()
        second = await next_of(source, "ack")
        assert second["id"] == first["id"]
        assert second["durable"]
        assert second["offset"] == 1
        notice = await next_of(ann, "position")
        assert notice == {"type": "position", "channel": "room", "offset": 1, "epoch": second["epoch"]}


async def test_a_full_server_refuses_clearly_and_nothing_hangs(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url) as serving,
    ):
        (ann, _), source = await member(serving, "ann"), await serving.connect("source")
        commands = open_redis(redis.url, connect_timeout=1, timeout=2)
        try:
            await commands.config_set("maxmemory", 1)
            refused = await publish(source, "too much")
            assert (refused["type"], refused["code"]) == ("error", "not_stored")
            assert refused["message"] == "the message is not stored: the memory of Redis is full"
            assert (await ask(ann, type="subscribe", channel="another"))["type"] == "ack"
            await commands.config_set("maxmemory", 0)
        finally:
            await commands.aclose()
        assert (await publish(source, "again"))["durable"] is True
        assert (await next_of(ann, "message"))["data"] == "again"


async def test_a_read_only_server_is_away_and_nothing_hangs(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url) as serving,
    ):
        (ann, _), source = await member(serving, "ann"), await serving.connect("source")
        commands = open_redis(redis.url, connect_timeout=1, timeout=2)
        try:
            await commands.replicaof("127.0.0.1", unused_port())
            ack = await publish(source, "to a replica")
            assert ack["type"] == "ack"
            assert not ack["durable"]
            assert (await ask(ann, type="subscribe", channel="another"))["type"] == "ack"
            assert (await ask(ann, type="ping"))["type"] == "pong"
            await commands.replicaof("NO", "ONE")
        finally:
            await commands.aclose()

        async with asyncio.timeout(20):
            while not (await publish(source, "again")).get("durable"):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
