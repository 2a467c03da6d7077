"""What members are given beyond the rules: by the application, and by tokens that end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from tests.support.waiting import eventually
from wsd.worker.backend.backend import memory_backend
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.client_sessions import digest
from wsd.worker.manager.connection import ClientRules, Connection, ConnectionLimits
from wsd.worker.manager.parts import ManagerParts
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.channel_access import Grant, Refusal
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.wire.redaction import PayloadFilter

pytestmark = pytest.mark.anyio

RULES = {
    "by-server": {"allow_subscribe": "server", "allow_history": "token"},
    "by-nobody": {"allow_subscribe": "nobody"},
    "by-token": {"allow_subscribe": "token", "allow_publish": "token"},
    "user:{user_id}": {},
}


class Running:
    """A running manager whose channels have rules."""

    def __init__(self) -> None:
        backend = memory_backend(session_ttl=60.0, trace_ttl=0.0)
        assert isinstance(backend.sessions, InMemorySessionStore)
        self.store = backend.sessions
        self.parts = ManagerParts(
            backend,
            worker_id="w",
            node_id="n",
            rules=ClientRules(ConnectionLimits(), PayloadFilter([])),
            channel_rules=ChannelRules(json.dumps(RULES)),
            outlet=Outlet(),
        )
        self.manager = DistributedWebSocketManager(self.parts)

    @property
    def held(self) -> object:
        return self.parts.members.membership._grants._held

    async def come_back(self, client: Connection) -> Connection:
        """Let a client lose its connection, and resume its session as a client of the hub."""
        self.manager.disconnect(client)
        session = await self.store.get(client.session_id)
        assert session is not None
        self.store._sessions[client.session_id] = msgspec.structs.replace(session, token=digest("secret"))
        return await self.manager.connect(client.user_id, resume_token=f"{client.session_id}.secret")


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    found = Running()
    task = asyncio.create_task(found.parts.run())
    await found.parts.wait_until_ready()
    yield found
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def token(seconds: float) -> Grant:
    return Grant(actions=("subscribe", "publish"), expires_at=time.time() + seconds)


async def test_a_client_that_the_application_put_into_a_channel_is_there_again_when_it_comes_back() -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        for channel in ("by-server", "by-nobody", "by-token", "user:bob"):
            assert one.manager.refusal(ann, "subscribe", channel) is not None
            await one.manager.join(ann, channel)
        for _ in range(2):
            ann = await one.come_back(ann)
            assert ann.channels == {"by-server", "by-token", "user:bob"}
        assert one.manager.refusal(ann, "history", "by-server") is None, "who was put into a channel may read it"
        assert one.manager.refusal(ann, "publish", "by-token") is Refusal.NO_TOKEN
        await one.manager.leave(ann, "by-server")
        assert one.manager.refusal(ann, "history", "by-server") is Refusal.NO_TOKEN


async def test_a_client_that_joined_by_itself_is_not_there_when_it_comes_back_under_other_rules() -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        await one.manager.join(ann, "by-server", grant=None)
        assert (await one.come_back(ann)).channels == set()


async def test_the_end_of_a_token_takes_only_what_the_token_gave() -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        await one.manager.join(ann, "by-token")
        await one.manager.renew(ann, "by-token", token(0.2))
        assert one.manager.refusal(ann, "publish", "by-token") is None
        await eventually(lambda: one.manager.refusal(ann, "publish", "by-token") is Refusal.NO_TOKEN)
        await asyncio.sleep(0)
        assert ann.channels == {"by-token"}, "the application has put the client there"


@pytest.mark.parametrize("way", ["renew", "join"])
async def test_a_token_that_is_replaced_does_not_end_while_the_new_one_is_stored(way: str) -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        await one.manager.join(ann, "by-token", grant=token(0.1))
        replacing = (
            one.manager.renew(ann, "by-token", token(600))
            if way == "renew"
            else one.manager.join(ann, "by-token", last=1, grant=token(600))
        )
        task = asyncio.ensure_future(replacing)
        asyncio.get_running_loop().call_soon(time.sleep, 0.15)  # the first token ends before the store answers
        await task
        assert ann.channels == {"by-token"}
        session = await one.store.get(ann.session_id)
        assert session is not None
        assert session.channels == {"by-token"}
        assert session.grants["by-token"].expires_at > time.time() + 500


async def test_nothing_is_kept_of_a_connection_that_has_ended_or_of_one_without_a_grant() -> None:
    async with running() as one:
        ann, bob = await one.manager.connect("ann"), await one.manager.connect("bob")
        await one.manager.join(bob, "open")
        await one.manager.join(bob, "user:bob", grant=None)
        assert one.held == {}
        await one.manager.join(ann, "by-token", grant=token(600))
        assert one.held != {}
        one.manager.disconnect(ann)
        assert one.held == {}


async def test_a_client_that_was_away_when_its_token_ended_does_not_enter_the_channel() -> None:
    async with running() as one:
        ann = await one.manager.connect("ann")
        await one.manager.join(ann, "by-token", grant=token(0.1))
        one.manager.disconnect(ann)
        end = time.time() + 0.1
        await eventually(lambda: time.time() > end)
        again = await one.come_back(ann)
        assert again.resumed
        assert again.channels == set()
