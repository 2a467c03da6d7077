"""The broker of a worker that stands alone."""

import asyncio
import secrets
from collections.abc import Sequence

from wsd.worker.broker.history import Entry, HistoryQuery, Page, Retention
from wsd.worker.broker.memory_history import MemoryHistory
from wsd.worker.broker.message_broker import (
    BrokerHealth,
    BrokerStatistics,
    MessageBroker,
    Mode,
    OnAppended,
    OnPublished,
    OnStored,
)
from wsd.worker.wire.position import Position

CLEANUP_SECONDS = 60.0
"""How often histories that are over are removed."""


class InMemoryMessageBroker(MessageBroker):
    """A broker for one process: development, tests, and a worker without any Redis."""

    def __init__(self, histories: dict[str, MemoryHistory] | None = None) -> None:
        """`histories`: by channel, where several brokers of this process share them."""
        self._channels: set[str] = set()
        self._published = self._received = 0
        self._origin = secrets.token_hex(6).encode()
        self._histories: dict[str, MemoryHistory] = {} if histories is None else histories

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CLEANUP_SECONDS)
            for channel in [c for c, history in self._histories.items() if history.forgotten]:
                if not self._is_subscribed(channel):
                    del self._histories[channel]

    def _is_subscribed(self, channel: str) -> bool:
        """Tell whether anybody receives what is published in a channel."""
        return channel in self._channels

    async def wait_until_ready(self) -> None:
        pass

    async def subscribe(self, *channels: str) -> None:
        self._channels.update(channels)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)

    def publish_soon(self, channel: str, payload: bytes, on_result: OnPublished) -> None:
        self._published += 1
        self.deliver_message(channel, payload)
        on_result(True)

    def deliver_message(self, channel: str, payload: bytes) -> None:
        """Report a message without a history to the listener, if this broker subscribes to the channel."""
        if channel in self._channels:
            self._received += 1
            self.listener.message_received(channel, payload)

    def deliver_entry(self, channel: str, entry: Entry) -> None:
        """Report an entry of a history to the listener, if this broker subscribes to the channel."""
        if channel in self._channels:
            self._received += 1
            self.listener.entry_received(channel, entry)

    def append_soon(
        self,
        channel: str,
        payload: bytes,
        retention: Retention,
        on_result: OnAppended,
        on_stored: OnStored | None = None,
    ) -> None:
        self._published += 1
        result = self._history(channel).append(self._origin, self._published, payload, retention)
        if result.entry is not None:
            self.deliver_entry(channel, result.entry)
        on_result(result)

    async def read(self, queries: Sequence[HistoryQuery]) -> list[Page]:
        return [
            self._history(query.channel).read(
                query.since, query.count, reverse=query.reverse, max_bytes=query.max_bytes
            )
            if query.follows or query.channel in self._histories
            else Page(Position(0, ""))
            for query in queries
        ]

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        raise NotImplementedError("memory loses nothing that it has sent")

    async def delete_history(self, channel: str, up_to: int | None = None) -> None:
        if channel in self._histories:
            self._histories[channel].clear()

    def _history(self, channel: str) -> MemoryHistory:
        history = self._histories.get(channel)
        if history is None:
            history = self._histories[channel] = MemoryHistory()
        return history

    @property
    def health(self) -> BrokerHealth:
        return BrokerHealth(Mode.MEMORY)

    @property
    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(channels=len(self._channels), published=self._published, heard=self._received)
