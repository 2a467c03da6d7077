"""Changes that Redis did not take are written when it is back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from wsd.worker.channels.receipts import Receipts
from wsd.worker.contract.redis_keys import user_connections_key
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.sessions.user_connections import UserConnections
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path, unused_port()) as started:
        yield started


@pytest.fixture
async def redis(running: Valkey) -> AsyncIterator[Redis]:
    client = open_redis(running.url, connect_timeout=1, timeout=4)
    yield client
    await client.aclose()


@asynccontextmanager
async def task(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    running = asyncio.ensure_future(run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_connection_that_ended_while_redis_was_away_does_not_count_when_it_is_back(
    running: Valkey, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    connections = UserConnections(redis, "worker", lambda: ["worker"])
    async with task(connections.run):
        assert await connections.enter("ann", "session", 1)
        assert not await connections.enter("ann", "another", 1)
        assert await connections.enter("bob", "his", 1)
        running.kill()
        connections.leave("session")
        await eventually(lambda: "connections of users are not counted now" in caplog.text)
        running.start()
        await redis.zadd(user_connections_key("ann"), {"worker session": time.time()})  # as if it had been saved
        assert not await connections.enter("ann", "another", 1)
        connections.leave("his")
        async with asyncio.timeout(30):
            while not await connections.enter("ann", "another", 1):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_a_receipt_that_came_while_redis_was_away_is_written_when_it_is_back(
    running: Valkey, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    receipts, elsewhere = Receipts(redis), Receipts(redis)
    async with task(receipts.run):
        running.kill()
        receipts.confirm("room", "ann", Position(5, "e"), 60)
        await eventually(lambda: "receipts are not written now" in caplog.text)
        receipts.confirm("room", "ann", Position(3, "e"), 60)
        running.start()
        receipts.confirm("room", "bob", Position(1, "e"), 60)
        async with asyncio.timeout(30):
            while await elsewhere.read_by("room", "bob", "e") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert await elsewhere.read_by("room", "ann", "e") == 5
