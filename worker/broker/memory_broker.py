"""The broker of a worker that stands alone: a development server, a test, or a worker without any Redis."""

import asyncio
import secrets
from collections.abc import Callable, Sequence

from wsd.worker.broker.history import HistoryQuery, Page, Retention
from wsd.worker.broker.memory_history import MemoryHistory
from wsd.worker.broker.message_broker import (
    BrokerHealth,
    BrokerStatistics,
    MessageBroker,
    Mode,
    OnAppended,
    Receive,
    Told,
)
from wsd.worker.wire.position import Position

CLEANUP_SECONDS = 60.0


class InMemoryMessageBroker(MessageBroker):
    """For one process: development, tests, and a worker without any Redis."""

    def __init__(self, receive: Receive) -> None:
        super().__init__(receive)
        self._channels: set[str] = set()
        self._published = self._heard = 0
        self._origin = secrets.token_hex(6).encode()
        self._histories: dict[str, MemoryHistory] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CLEANUP_SECONDS)
            for channel in [c for c, history in self._histories.items() if history.forgotten]:
                if channel not in self._channels:
                    del self._histories[channel]

    async def wait_until_ready(self) -> None:
        pass

    async def subscribe(self, *channels: str) -> None:
        self._channels.update(channels)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)

    def publish_soon(self, channel: str, payload: bytes, told: Told) -> None:
        self._published += 1
        if channel in self._channels:
            self._heard += 1
            self.receive(channel, payload)
        told(True)

    def append_soon(
        self,
        channel: str,
        payload: bytes,
        keep: Retention,
        told: OnAppended,
        on_stored: Callable[[Position], None] | None = None,
    ) -> None:
        self._published += 1
        stored = self._history(channel).append(self._origin, self._published, payload, keep)
        if stored.entry is not None and channel in self._channels:
            self._heard += 1
            self.on_entry(channel, stored.entry)
        told(stored)

    async def read(self, wanted: Sequence[HistoryQuery]) -> list[Page]:
        return [
            self._history(one.channel).read(one.since, one.count, reverse=one.reverse, max_bytes=one.max_bytes)
            if one.follows or one.channel in self._histories
            else Page(Position(0, ""))
            for one in wanted
        ]

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        raise NotImplementedError("memory loses nothing that it has sent")

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
        return BrokerStatistics(channels=len(self._channels), published=self._published, heard=self._heard)
