"""The keeper of sessions between a client that comes back and a store that is away."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from tests.support.waiting import eventually
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.session_store import SessionInfo, SessionState

pytestmark = pytest.mark.anyio


class SlowStore(InMemorySessionStore):
    """A store that fails to detach sessions once the test says so."""

    def __init__(self) -> None:
        super().__init__(60.0)
        self.detaching = asyncio.Event()
        self.fails = asyncio.Event()
        self.away = True

    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        if session_ids and self.away:
            self.detaching.set()
            await self.fails.wait()
            raise RedisUnavailableError("away")
        await super().detach_many(session_ids, keep_seconds=keep_seconds)


def session(session_id: str) -> SessionInfo:
    return SessionInfo(
        session_id=session_id,
        user_id="ann",
        username="Ann",
        node_id="n",
        worker_id="w",
        connected_at=0.0,
        last_seen=9e9,
    )


async def test_a_client_that_comes_back_while_its_end_cannot_be_written_stays_connected() -> None:
    store = SlowStore()
    keeper = SessionKeeper(
        store,
        EndedConnections(None, 0),
        interval=60.0,
        timeout=30.0,
        on_ended=lambda session_id: None,
        on_failed=lambda session_id: None,
    )
    running = asyncio.create_task(keeper.run())
    await keeper.open(session("back"))
    await keeper.open(session("gone"))
    for session_id in ("back", "gone"):
        keeper.close(session_id, clean=False)
    await store.detaching.wait()
    keeper.adopt("back")
    store.fails.set()
    await eventually(lambda: not keeper.healthy)
    store.away = False
    keeper.flush_now()
    await eventually(lambda: keeper.healthy)

    async def state(session_id: str) -> SessionState | None:
        found = await store.get(session_id)
        return found.state if found is not None else None

    async with asyncio.timeout(30):
        while await state("gone") is not SessionState.DETACHED:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await state("back") is SessionState.CONNECTED
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
