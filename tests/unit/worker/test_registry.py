"""A connection is counted once and taken out once, whatever happens to it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.support.waiting import eventually
from wsd.worker.backend.backend import memory_backend
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.errors import TooManyConnectionsError
from wsd.worker.manager.client_sessions import digest
from wsd.worker.manager.connection import ClientRules, Connection, ConnectionLimits
from wsd.worker.manager.parts import ManagerParts
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.session_store import SessionInfo, SessionState
from wsd.worker.wire.channel_names import user_channel
from wsd.worker.wire.redaction import PayloadFilter

pytestmark = pytest.mark.anyio


class SlowStore(InMemorySessionStore):
    """A store that writes sessions only while it is open."""

    def __init__(self) -> None:
        super().__init__(60.0)
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        if sessions:
            self.asked.set()
            await self.open.wait()
        await super().create_many(sessions)


class Running:
    """A running manager, with its parts and its store."""

    def __init__(self, per_user: int) -> None:
        self.store = SlowStore()
        self.parts = ManagerParts(
            replace(memory_backend(session_ttl=60.0, trace_ttl=0.0), sessions=self.store),
            worker_id="w",
            node_id="n",
            rules=ClientRules(ConnectionLimits(per_user=per_user), PayloadFilter([])),
            channel_rules=ChannelRules(""),
            outlet=Outlet(),
        )
        self.manager = DistributedWebSocketManager(self.parts)

    @property
    def counted(self) -> Mapping[str, int]:
        return dict(self.parts.messages.fanout.user_sizes())

    async def state_of(self, connection: Connection) -> SessionState | None:
        session = await self.store.get(connection.session_id)
        return session.state if session is not None else None


@asynccontextmanager
async def running(per_user: int = 0) -> AsyncIterator[Running]:
    found = Running(per_user)
    task = asyncio.create_task(found.parts.run())
    await found.parts.wait_until_ready()
    yield found
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_connection_above_the_limit_is_not_counted_afterwards() -> None:
    async with running(per_user=1) as one:
        first = await one.manager.connect("ann")
        for _ in range(3):
            with pytest.raises(TooManyConnectionsError):
                await one.manager.connect("ann")
        assert one.counted == {"ann": 1}
        assert one.manager.connection_count == 1
        assert one.parts.counts.refusals == {"too_many_connections": 3}
        one.manager.disconnect(first, 1000)
        assert one.counted == {}
        await one.manager.connect("ann")


async def test_of_connections_that_come_together_no_more_than_the_limit_are_admitted() -> None:
    async with running(per_user=2) as one:
        results: list[Any] = await asyncio.gather(
            *(one.manager.connect("ann") for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(result, Connection) for result in results) == 2
        assert one.counted == {"ann": 2}


async def test_a_connection_that_is_cancelled_while_its_session_is_stored_leaves_nothing() -> None:
    async with running(per_user=1) as one:
        one.store.open.clear()
        connecting = asyncio.create_task(one.manager.connect("ann"))
        await one.store.asked.wait()
        assert one.counted == {"ann": 1}
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert one.counted == {}
        assert one.parts.messages.fanout.members(user_channel("ann")) == set()
        one.store.open.set()
        await eventually(lambda: one.store._sessions == {})


async def test_a_resumed_session_replaces_its_earlier_connection_and_goes_on() -> None:
    async with running(per_user=1) as one:
        first = await one.manager.connect("ann", welcome=False)
        await one.manager.join(first, "room")
        session = await one.store.get(first.session_id)
        assert session is not None
        one.store._sessions[first.session_id] = msgspec.structs.replace(session, token=digest("secret"))
        token = f"{first.session_id}.secret"
        second = await one.manager.connect("ann", resume_token=token)
        assert second.resumed
        assert second.session_id == first.session_id
        assert first.outbox.closed == (4500, "resumed by another connection")
        assert second.channels == {"room"}
        assert one.counted == {"ann": 1}
        one.manager.disconnect(first, 1000)  # its application notices the end later
        assert one.counted == {"ann": 1}
        assert await one.state_of(second) is SessionState.CONNECTED


async def test_the_end_of_a_connection_is_noted_once() -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        one.manager.disconnect(ann, 1000)
        one.manager.disconnect(ann, 1006)
        assert sum(one.parts.counts.closes.values()) == 1
        assert one.manager.connection_count == 0
