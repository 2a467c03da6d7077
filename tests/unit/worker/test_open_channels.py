"""Channels that are open on a worker: they are opened when clients join, and closed when the last member has left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.support.brokers import Received
from tests.support.outbox_socket import Socket
from tests.support.waiting import eventually
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.channels.catch_up import CatchUp
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.channels.open_channels import OpenChannels
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet

pytestmark = pytest.mark.anyio


class Parts:
    def __init__(self) -> None:
        self.outlet = Outlet()
        self.fanout = Fanout(self.outlet)
        self.broker = InMemoryMessageBroker()
        self.broker.listener = Received()
        self.channels: dict[str, Channel] = {}
        self.catch_up = CatchUp(self.broker, self.channels, MemberMessages(self.fanout), timeout=10)
        self.open = OpenChannels(self.broker, self.fanout, self.channels, ChannelRules().of, self.catch_up)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.broker.run())
            tasks.create_task(self.catch_up.run())
            tasks.create_task(self.open.run())

    def is_subscribed(self, channel: Channel) -> bool:
        return channel.key in self.broker._channels


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    made = Parts()
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_channel_is_open_while_it_is_held_or_has_members(parts: Parts) -> None:
    socket = Socket(parts.outlet)
    with parts.open.holding("room") as channel:
        with parts.open.holding("room") as again:
            assert again is channel
        await parts.open.wait_until_ready(channel)
        assert parts.is_subscribed(channel)
        parts.fanout.join(socket.outbox, "room")
    with parts.open.holding("other"):
        pass
    await eventually(lambda: "other" not in parts.channels)
    assert parts.channels == {"room": channel}
    assert parts.is_subscribed(channel)
    parts.fanout.leave(socket.outbox, "room")
    parts.open.left("room")
    await eventually(lambda: not parts.is_subscribed(channel))
    assert parts.channels == {}


async def test_a_channel_that_is_held_again_before_it_is_closed_stays(parts: Parts) -> None:
    with parts.open.holding("room") as channel:
        await parts.open.wait_until_ready(channel)
    with parts.open.holding("room") as again, parts.open.holding("other"):
        assert again is channel
        parts.open.left("room")
        parts.open.left("unknown")
        await parts.open.wait_until_ready(parts.channels["other"])
        assert parts.channels["room"] is channel


async def test_a_channel_is_ready_although_its_first_subscription_fails_unexpectedly(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe = parts.broker.subscribe
    failures = [RuntimeError("once")]

    async def failing(*channels: str) -> None:
        if failures:
            raise failures.pop()
        await subscribe(*channels)

    monkeypatch.setattr(parts.broker, "subscribe", failing)
    with parts.open.holding("room") as channel:
        await asyncio.wait_for(channel.ready.wait(), 5)
        assert not failures
        assert parts.is_subscribed(channel)
