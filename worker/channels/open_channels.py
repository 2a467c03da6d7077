"""The channels that are open on this worker: they have members here, or are about to have some."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.catch_up import CatchUp
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.delivery.fanout import Fanout


class OpenChannels:
    """Opens channels that clients join, and closes those that the last member has left. `run` must run."""

    def __init__(
        self,
        broker: MessageBroker,
        fanout: Fanout,
        channels: dict[str, Channel],
        options: Callable[[str], ChannelOptions],
        catch_up: CatchUp,
    ) -> None:
        """`channels`: all that are open, by name; only this changes it. `options`: those of a channel."""
        self._broker = broker
        self._fanout = fanout
        self._channels = channels
        self._options = options
        self._catch_up = catch_up
        self._seen = SeenMessages()
        self._left_empty: asyncio.Queue[str] = asyncio.Queue()

    @contextmanager
    def holding(self, name: str) -> Iterator[Channel]:
        """Keep a channel open for a client that is about to join. It is brought to its position meanwhile."""
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self._options(name), self._seen)
            self._catch_up.add(channel)
        channel.holders += 1
        try:
            yield channel
        finally:
            channel.holders -= 1
            self._maybe_left_empty(channel)

    async def wait_until_ready(self, channel: Channel) -> None:
        """Wait until a channel is at its position, as far as Redis answers in time."""
        await self._catch_up.wait_until_ready(channel)

    def left(self, name: str) -> None:
        """Note that a channel has one member less."""
        if (channel := self._channels.get(name)) is not None:
            self._maybe_left_empty(channel)

    def _maybe_left_empty(self, channel: Channel) -> None:
        if not channel.holders and not self._fanout.has_members(channel.name):
            self._left_empty.put_nowait(channel.name)

    async def run(self) -> None:
        """Close channels that nobody here is in, so that this worker receives only messages for members here."""
        await run_repeatedly(self._close_empty, "channels: unsubscribing")

    async def _close_empty(self) -> None:
        while True:
            name = await self._left_empty.get()
            channel = self._channels.get(name)
            if channel is not None and not channel.holders and not self._fanout.has_members(name):
                del self._channels[name]
                self._catch_up.remove(name)
                channel.shared.cancel()
                if channel.feed is not None:
                    channel.feed.close()
                try:
                    await self._broker.unsubscribe(channel.key)
                finally:
                    if name in self._channels:  # opened again meanwhile
                        self._channels[name].subscribed = False
                        self._catch_up.add(self._channels[name])
