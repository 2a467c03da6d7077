"""What the application does with a user who has many connections, called as an application calls it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from wsd import DistributedWebSocketManager
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.errors import ChannelFullError
from wsd.worker.manager.connection import Connection
from wsd.worker.sessions.session_store import SessionInfo
from wsd.worker.wire.messages import Welcome
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker

pytestmark = pytest.mark.anyio

MANY = 20
CHANNELS = json.dumps({"small": {"max_members": 3}})


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    running = Worker(WorkerEnv(worker_id="w", node_id="n", redis_timeout=0.2, channels=CHANNELS))
    await running.start()
    yield running
    await running.stop()


async def connected(manager: DistributedWebSocketManager) -> list[Connection]:
    return [await manager.connect("ann") for _ in range(MANY)]


async def test_sessions_that_take_long_to_read_are_listed_and_ended(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = await connected(worker.manager)
    store = worker.backend.sessions
    at_once = store.list_by_user

    async def slowly(user_id: str) -> list[SessionInfo]:
        await asyncio.sleep(2 * worker.env.redis_timeout)  # as thousands of sessions in Redis do
        return await at_once(user_id)

    monkeypatch.setattr(store, "list_by_user", slowly)
    assert (await worker.manager.sessions("ann"))[0] == MANY
    assert len(await worker.manager.end_sessions(user_id="ann", code=4001, reason="bye")) == MANY
    assert {one.outbox.closed for one in connections} == {(4001, "bye")}


async def test_a_user_joins_a_channel_with_as_many_connections_as_it_has_places_for(worker: Worker) -> None:
    connections = await connected(worker.manager)
    assert await worker.manager.subscribe_user("ann", "small") == 3
    assert sum("small" in one.channels for one in connections) == 3
    assert await worker.manager.unsubscribe_user("ann", "small") == 3


async def test_clients_that_join_together_do_not_overfill_a_channel(worker: Worker) -> None:
    connections = await connected(worker.manager)
    together = (worker.manager.join(one, "small") for one in connections)
    results = await asyncio.gather(*together, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 3 + [ChannelFullError] * (MANY - 3)
    await worker.manager.leave(connections[0], "small")
    await worker.manager.join(connections[-1], "small")


async def test_a_client_that_names_a_full_channel_when_it_comes_is_told_that_it_is_full(worker: Worker) -> None:
    welcomes: list[Welcome] = []

    async def come(**options: Any) -> Connection:
        return await worker.manager.connect("ann", welcome=welcomes.append, **options)

    first = await come(since={"small": Position(0, "")})
    resume_token = welcomes[-1].resume_token
    worker.manager.disconnect(first, 1006)
    together = (come(since={"small": Position(0, ""), "large": Position(0, "")}) for _ in range(MANY))
    connections = await asyncio.gather(*together)
    assert sum("small" in one.channels for one in connections) == 3
    assert all("large" in one.channels for one in connections)
    assert [welcome.refused for welcome in welcomes if welcome.refused] == [{"small": "channel_full"}] * (MANY - 3)
    back = await come(resume_token=resume_token)
    assert "small" in back.channels, "a session keeps its place"


async def test_a_client_that_is_coming_back_leaves_the_channel_too(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    welcomes: list[Welcome] = []
    first = await worker.manager.connect("ann", welcome=welcomes.append)
    await worker.manager.join(first, "secret")
    worker.manager.disconnect(first, 1006)
    membership = worker.parts.members.membership
    at_once, is_entering = membership._refused, asyncio.Event()

    async def slowly(*arguments: Any) -> Any:
        is_entering.set()
        await asyncio.sleep(0.05)
        return await at_once(*arguments)

    monkeypatch.setattr(membership, "_refused", slowly)
    coming = asyncio.create_task(worker.manager.connect("ann", resume_token=welcomes[0].resume_token))
    await is_entering.wait()
    assert await worker.manager.unsubscribe_user("ann", "secret") == 1
    assert (await coming).resumed
    assert not (await coming).channels
