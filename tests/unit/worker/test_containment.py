"""A fault in the work for one client ends the connection of that client, and affects no other."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.support.outbox_socket import Socket, payload, turn
from tests.support.waiting import eventually
from wsd.worker.backend.backend import memory_backend
from wsd.worker.background import containment
from wsd.worker.background.containment import Containment, contained, run_repeatedly
from wsd.worker.channels.options import ChannelRules
from wsd.worker.channels.presence import InMemoryPresence
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.endpoints.hub_client import HubClient
from wsd.worker.manager.connection import ClientRules, ConnectionLimits
from wsd.worker.manager.parts import ManagerParts
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.server.keepalive import Keepalive
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.wire.redaction import PayloadFilter

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_was_logged_before() -> None:
    containment.faults.clear()
    containment._logged_at.clear()


class Connection:
    def __init__(self) -> None:
        self.failed = 0

    def fail(self) -> None:
        self.failed += 1


def raises(*_: object) -> None:
    raise ValueError("a bug")


def test_a_fault_is_logged_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection()
    for _ in range(3):
        contained("here", connection, raises)("told")
    assert connection.failed == 3
    assert containment.faults["here"] == 3
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_cancellations_and_exits_are_not_contained() -> None:
    with pytest.raises(asyncio.CancelledError), Containment("here"):
        raise asyncio.CancelledError


async def test_a_loop_that_raises_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "RESTART_SECONDS", 0.0)
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        raise ValueError(rounds)

    task = asyncio.create_task(run_repeatedly(work, "a loop"))
    await eventually(lambda: rounds > 2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


class Broken(Socket):
    def write(self, items: Any, sent: int = 0) -> bool:
        raise ValueError("a bug")


async def test_a_client_whose_write_fails_keeps_nothing_from_the_others() -> None:
    outlet = Outlet()
    first, broken, last = Socket(outlet), Broken(outlet), Socket(outlet)
    for socket in (first, broken, last):
        socket.outbox.send(payload("x"))
    await turn()
    assert (first.got, last.got) == (["x"], ["x"])
    assert broken.ended == (1011, "internal error")


class Pinged(Connection):
    has_received = gone = False
    ping_at = answer_by = 0.0
    pings = 0

    def ping(self) -> None:
        self.pings += 1

    def not_answered(self) -> None: ...


class Unpingable(Pinged):
    def ping(self) -> None:
        raise OSError("a bug")


async def test_a_connection_whose_ping_fails_does_not_keep_the_others_from_being_pinged() -> None:
    keepalive = Keepalive(0.01, None)
    broken, well = Unpingable(), Pinged()
    keepalive.add(broken)
    keepalive.add(well)
    await eventually(lambda: well.pings > 1)
    assert broken.failed


class FailingFilter(PayloadFilter):
    """A filter with a bug: it raises for a certain text."""

    def __call__(self, data: msgspec.Raw) -> msgspec.Raw:
        if b"poison" in bytes(data):
            raise ValueError("a bug")
        return super().__call__(data)


class FailingPresence(InMemoryPresence):
    async def others(self, channel: str, limit: int) -> Any:
        raise ValueError("a bug")


class FailingStore(InMemorySessionStore):
    """A store that cannot write the sessions of one user."""

    async def create_many(self, sessions: Any) -> None:
        if any(session.user_id == "mallory" for session in sessions):
            raise UnicodeEncodeError("utf-8", "", 0, 1, "a bug")
        await super().create_many(sessions)


@asynccontextmanager
async def running_manager() -> AsyncIterator[tuple[ManagerParts, DistributedWebSocketManager]]:
    backend = memory_backend(session_ttl=60.0, trace_ttl=0.0)
    parts = ManagerParts(
        replace(backend, sessions=FailingStore(60.0), presence=FailingPresence()),
        worker_id="w",
        node_id="n",
        rules=ClientRules(ConnectionLimits(), FailingFilter([])),
        channel_rules=ChannelRules(""),
        outlet=Outlet(),
    )
    running = asyncio.create_task(parts.run())
    await parts.wait_until_ready()
    yield parts, DistributedWebSocketManager(parts)
    assert not running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def connected(
    parts: ManagerParts, manager: DistributedWebSocketManager, user_id: str
) -> tuple[Socket, HubClient]:
    socket = Socket(parts.outlet)
    connection = await manager.connect(user_id, welcome=False, outbox=socket.outbox)
    socket.outbox.release()
    return socket, HubClient(manager, connection)


async def test_a_request_that_fails_is_answered_and_those_behind_it_are_carried_out() -> None:
    async with running_manager() as (parts, manager):
        socket, client = await connected(parts, manager, "ann")
        requests: list[dict[str, Any]] = [
            {"type": "subscribe", "channel": "c", "id": 1},
            {"type": "presence", "channel": "c", "id": 2},
            {"type": "publish", "channel": "c", "data": "poison", "id": 3},
            {"type": "unsubscribe", "channel": "c", "id": 4},
        ]
        for request in requests:
            client.received(json.dumps(request))
        await eventually(lambda: any(answer.get("id") == 4 for answer in socket.got))
        answers = {answer["id"]: answer for answer in socket.got if "id" in answer}
        assert [answers[number]["type"] for number in (1, 2, 3, 4)] == ["ack", "error", "error", "ack"]
        assert answers[2]["code"] == answers[3]["code"] == "internal_error"
        assert socket.ended is None


async def test_an_answer_that_cannot_be_given_ends_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_manager() as (parts, manager):
        (guilty, client), (other, _) = await connected(parts, manager, "ann"), await connected(parts, manager, "ben")
        monkeypatch.setattr(manager, "reply", raises)
        client.received('{"type":"broadcast","data":1,"id":1}')
        await eventually(lambda: other.got)
        assert guilty.ended == (1011, "internal error")
        assert other.ended is None


async def test_a_session_that_cannot_be_written_is_refused_alone() -> None:
    async with running_manager() as (parts, manager):
        guilty, other = await asyncio.gather(
            connected(parts, manager, "mallory"), connected(parts, manager, "ben"), return_exceptions=True
        )
        assert isinstance(guilty, ValueError)
        assert isinstance(other, tuple)
        assert await parts.backend.sessions.get(other[1].connection.session_id) is not None


async def test_faults_are_logged_with_their_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with running_manager() as (parts, manager):
        socket, client = await connected(parts, manager, "ann")
        client.received('{"type":"broadcast","data":"poison","id":1}')
        await eventually(lambda: socket.got)
    assert "a client's request" in caplog.text
    assert "ValueError: a bug" in caplog.text
