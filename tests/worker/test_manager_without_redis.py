"""What the methods of the manager do while Redis is away, called as an application calls them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from wsd import DistributedWebSocketManager, RedisUnavailableError
from wsd.worker.broker.message_broker import Mode
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.worker import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path, unused_port()) as running:
        yield running


@pytest.fixture
async def manager(redis: Valkey) -> AsyncIterator[DistributedWebSocketManager]:
    """The manager of a worker that has reached Redis once."""
    worker = Worker(WorkerEnv(worker_id="w", node_id="n", redis_url=redis.url, redis_timeout=0.5))
    await worker.start()
    await eventually(lambda: worker.backend.broker.health.mode is Mode.DISTRIBUTED)
    yield worker.manager
    await worker.stop()


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_histories_and_receipts_cannot_be_read_and_messages_wait(
    redis: Valkey, manager: DistributedWebSocketManager, fault: str
) -> None:
    assert (await manager.publish("room", "before")).everywhere
    assert len((await manager.history("room")).messages) == 1
    assert await manager.read_by("room", "ann", "e") == 0
    if fault == "kill":
        redis.kill()
    else:
        redis.freeze()
    for _ in range(2):  # before the worker has noticed, and afterwards
        async with asyncio.timeout(10):
            with pytest.raises(RedisUnavailableError):
                await manager.history("room")
            with pytest.raises(RedisUnavailableError):
                await manager.read_by("room", "ann", "e")
            assert not (await manager.publish("room", "meanwhile")).everywhere
