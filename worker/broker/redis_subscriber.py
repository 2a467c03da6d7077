"""The receiving half of a worker's traffic with one Redis."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from wsd.worker.background.containment import Containment
from wsd.worker.background.waiting import wait_at_most
from wsd.worker.broker.message_format import NO_HISTORY, PROBE
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import PubSub, Redis, is_open, redis_errors

logger = get_logger(__name__)

READY_SECONDS = 2.0
"""How long `wait_until_ready` waits for a server that accepts the connection and does not answer."""

PROBE_TEXT = NO_HISTORY + b" " + PROBE
"""The beginning of a probe as it is received, see `message_format`."""

RECEIVING = Containment("listener: a message that was received")


class RedisSubscriber:
    """Receives messages from one Redis: one connection, and the channels that are subscribed on it.

    `own_channel` is always subscribed, so that the connection is never without a subscription.
    """

    def __init__(self, name: str, client: Redis, own_channel: str, timeout: float) -> None:
        """Prepare to subscribe; nothing is connected before `receive`.

        `name` is for the log. `client` must have no read timeout: a minute without a message is not a broken
        connection. `timeout` is how many seconds a subscription may take.
        """
        self.subscribed = False
        """True while there is a connection, and everything that was subscribed before is subscribed on it."""
        self.received_at = 0.0
        """When anything was last received, by the monotonic clock."""
        self.connections = 0
        self._name = name
        self._client = client
        self._timeout = timeout
        self._channels = {own_channel}
        self._sent: set[str] = set()  # subscriptions that were sent on the present connection
        self._confirmed: set[str] = set()  # those of them that Redis has confirmed
        self._confirmations: dict[str, asyncio.Event] = {}
        self._commanding = asyncio.Lock()
        self._pubsub: PubSub | None = None
        self._ready = asyncio.Event()
        self._probes: dict[bytes, asyncio.Event] = {}  # by their text

    async def receive(self, on_message: Callable[[str, bytes], None], on_subscribed: Callable[[], None]) -> None:
        """Connect, subscribe everything, and receive messages until the connection is lost.

        `on_message` is called with channel and text of every message, `on_subscribed` once everything is subscribed.

        Raises RedisUnavailableError.
        """
        async with redis_errors(), self._client.pubsub() as pubsub:
            async with self._commanding:
                self._sent = set(self._channels)
                await pubsub.subscribe(*self._sent)
                self._pubsub = pubsub
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                self.received_at = time.monotonic()
                channel = message["channel"].decode()
                if message["type"] == "message":
                    data: bytes = message["data"]
                    if not data.startswith(PROBE_TEXT):
                        with RECEIVING:
                            on_message(channel, data)
                    elif (probe := self._probes.get(data)) is not None:
                        probe.set()
                elif message["type"] == "subscribe":
                    self._confirm(channel, on_subscribed)

    async def wait_until_ready(self) -> None:
        """Wait until everything is subscribed, or the server turned out to be away."""
        await wait_at_most(self._ready, READY_SECONDS)

    async def subscribe(self, channels: Collection[str], *, confirm: bool) -> None:
        """Subscribe channels, now if there is a connection, or else as soon as there is one.

        With `confirm` every message that is published after the return is received, if Redis answers in time.
        """
        self._channels.update(channels)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._update(channels)
                for channel in channels if confirm else ():
                    if channel in self._sent and channel not in self._confirmed:
                        await self._confirmations.setdefault(channel, asyncio.Event()).wait()

    async def unsubscribe(self, channels: Collection[str]) -> None:
        self._channels.difference_update(channels)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._update(channels)

    @contextmanager
    def expecting(self, probe: bytes) -> Iterator[asyncio.Event]:
        """Yield an event that is set when a probe is received. `probe` is its text, which begins with PROBE_TEXT."""
        received = self._probes[probe] = asyncio.Event()
        try:
            yield received
        finally:
            del self._probes[probe]

    async def reconnect(self) -> None:
        """Close the connection. `receive` then raises."""
        connection: Any = self._pubsub.connection if self._pubsub is not None else None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def forget_connection(self) -> None:
        """Note that the connection is lost."""
        self.subscribed = False
        self._pubsub = None
        self._sent.clear()
        self._confirmed.clear()
        self._ready.set()

    async def _update(self, channels: Collection[str]) -> None:
        """Tell Redis whether channels are wanted by now. One call at a time, so that the last word is sent last."""
        async with self._commanding:
            pubsub = self._pubsub
            if pubsub is None or not is_open(pubsub.connection):
                # `receive` ends, and subscribes everything anew. redis-py would connect here, where nobody receives.
                return
            new = [channel for channel in channels if channel in self._channels and channel not in self._sent]
            old = [channel for channel in channels if channel not in self._channels and channel in self._sent]
            # An error does not matter here: `receive` sees the same broken connection and ends.
            with suppress(RedisUnavailableError):
                async with redis_errors():
                    if new:
                        self._sent.update(new)
                        await pubsub.subscribe(*new)
                    if old:
                        self._sent.difference_update(old)
                        self._confirmed.difference_update(old)
                        await pubsub.unsubscribe(*old)

    def _confirm(self, channel: str, on_subscribed: Callable[[], None]) -> None:
        if channel in self._sent:
            self._confirmed.add(channel)
        if (waiting := self._confirmations.pop(channel, None)) is not None:
            waiting.set()
        if not self.subscribed and self._confirmed >= self._sent:
            self.subscribed = True
            self.connections += 1
            self._ready.set()
            logger.info("subscribed to %d channels at %s", len(self._channels), self._name)
            on_subscribed()
