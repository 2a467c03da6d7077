"""Messages between workers over Redis pub/sub: one listening connection a worker, reconnecting for ever."""

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.exceptions import ConnectionError as RedisConnectionError

from wsd.worker.link import Redis, RedisError, raise_if_cancelled
from wsd.worker.message_broker import MessageBroker, Receive

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

logger = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 2.0
SETTLE_SECONDS = 2.0


class RedisMessageBroker(MessageBroker):
    """Hears `own_channel` always, so that the connection is never without a subscription.

    `listener` must have no read timeout: a quiet minute is not a broken connection. While it is down,
    messages reach the members of this worker only, and `healthy` says so.
    """

    def __init__(self, receive: Receive, publisher: Redis, listener: Redis, own_channel: str) -> None:
        super().__init__(receive)
        self._publisher = publisher
        self._listener = listener
        self._channels = {own_channel}
        self._sent: set[str] = set()  # told to the present connection
        self._confirmed: set[str] = set()  # heard back from it
        self._confirmations: dict[str, asyncio.Event] = {}
        self._telling = asyncio.Lock()
        self._hearing = False  # connected, and all that was subscribed before is again
        self._pubsub: PubSub | None = None
        self._settled = asyncio.Event()
        self.reconnects = 0

    async def run(self) -> None:
        attempt = 0
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as exc:
                raise_if_cancelled()
                self._settled.set()
                was_connected, self._hearing = self._hearing, False
                self._pubsub = None
                self._sent.clear()
                self._confirmed.clear()
                # What waits in the pool was connected to the same dead server.
                await self._publisher.connection_pool.disconnect(inuse_connections=False)
                if was_connected:
                    attempt = 0
                    logger.warning("lost Redis, messages stay on this worker until it is back: %s", exc)
                elif attempt == 0:
                    logger.warning("cannot reach Redis, messages stay on this worker: %s", exc)
            ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2**attempt)
            attempt = min(attempt + 1, 8)
            await asyncio.sleep(random.uniform(0, ceiling))

    async def settle(self) -> None:
        with suppress(TimeoutError):  # a server that takes the connection and says nothing
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settled.wait()

    async def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        await self._follow(channel)
        if channel in self._sent and channel not in self._confirmed:
            confirmed = self._confirmations.setdefault(channel, asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await confirmed.wait()

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        await self._follow(channel)

    async def _follow(self, channel: str) -> None:
        """Tell Redis what is wanted of a channel by now. One at a time: the last word must be the last sent."""
        async with self._telling:
            wanted, pubsub = channel in self._channels, self._pubsub
            if pubsub is None or wanted == (channel in self._sent):
                return
            with suppress(RedisError, OSError):  # the listening task sees the same broken connection and replaces it
                if wanted:
                    self._sent.add(channel)
                    await pubsub.subscribe(channel)
                else:
                    self._sent.discard(channel)
                    self._confirmed.discard(channel)
                    await pubsub.unsubscribe(channel)

    async def publish(self, channel: str, payload: bytes) -> bool:
        if self.healthy:
            try:
                await self._publisher.publish(channel, payload)
            except RedisConnectionError as exc:
                logger.warning("publish failed, delivered on this worker only: %s", exc)
            except RedisError as exc:
                # It may have been carried out: delivering it here as well could double it.
                logger.warning("publish unanswered: %s", exc)
                return False
            else:
                return True
        if channel in self._channels:
            self.receive(channel, payload)
        return False

    @property
    def healthy(self) -> bool:
        return self._hearing

    async def _hear(self) -> None:
        async with self._listener.pubsub() as pubsub:
            async with self._telling:
                self._sent = set(self._channels)
                await pubsub.subscribe(*self._sent)
                self._pubsub = pubsub
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                channel = message["channel"].decode()
                if message["type"] == "message":
                    self.receive(channel, message["data"])
                elif message["type"] == "subscribe":
                    self._confirm(channel)

    def _confirm(self, channel: str) -> None:
        if channel in self._sent:
            self._confirmed.add(channel)
        if (waiting := self._confirmations.pop(channel, None)) is not None:
            waiting.set()
        if not self._hearing and self._confirmed >= self._sent:
            self._hearing = True
            self.reconnects += 1
            self._settled.set()
            logger.info("hearing %d channels over Redis", len(self._channels))
