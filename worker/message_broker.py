"""How messages reach the other workers: the interface, and the broker of a worker that stands alone."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

Receive = Callable[[str, bytes], None]
"""Called with channel and payload for every message heard; must not block."""


class MessageBroker(ABC):
    """Publish and subscribe between workers.

    Promise: a payload published to a channel reaches `receive` of every healthy broker subscribed to it,
    the publisher's own included, at most once, and in the order in which one publisher sent them.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive

    @abstractmethod
    async def run(self) -> None:
        """Hear messages until cancelled, connecting and reconnecting as needed."""

    @abstractmethod
    async def settle(self) -> None:
        """Wait until `run` hears, or has seen that it cannot for now: before that, messages would be missed."""

    @abstractmethod
    async def subscribe(self, channel: str) -> None:
        """From its return on, what is published to the channel is heard; without a server, once it is back."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    async def publish(self, channel: str, payload: bytes) -> bool:
        """Send; True when it went to all workers, False when only this worker's members got it."""

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """Whether messages cross workers now."""


class InMemoryMessageBroker(MessageBroker):
    """For one process: development, tests, and a worker without any Redis."""

    def __init__(self, receive: Receive) -> None:
        super().__init__(receive)
        self._channels: set[str] = set()

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def settle(self) -> None:
        pass

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)

    async def publish(self, channel: str, payload: bytes) -> bool:
        if channel in self._channels:
            self.receive(channel, payload)
        return True

    @property
    def healthy(self) -> bool:
        return True
