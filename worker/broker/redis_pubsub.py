"""One Redis server as a way for messages: what is sent to it, received from it, and stored in it."""

import asyncio
import random
import secrets
from typing import Protocol

from wsd.worker.background.containment import report, run_repeatedly
from wsd.worker.background.waiting import wait_at_most
from wsd.worker.broker.message_format import PROBE
from wsd.worker.broker.redis_history import RedisHistory
from wsd.worker.broker.redis_publisher import RedisPublisher
from wsd.worker.broker.redis_subscriber import RedisSubscriber
from wsd.worker.broker.spool import Outgoing
from wsd.worker.contract.redis_keys import probe_key
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors

logger = get_logger(__name__)

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 1.0
"""The ceilings of the random pauses before a new connection: the first, and the highest.

With the breaker's pause, a Redis that is back is in use within 2 s.
"""

PROBE_MS = 1000
"""How long the key that `check_writes` writes is kept."""


class PubSubListener(Protocol):
    """The object that a RedisPubSub reports to. Its methods must not block."""

    def text_received(self, channel: str, text: bytes, /) -> None:
        """Handle a message; `text` is as in `message_format`."""

    def subscribed(self, server: "RedisPubSub", /) -> None:
        """Handle a new connection, after everything was subscribed on it. Messages may have been missed before."""

    def failed(self, server: "RedisPubSub", reason: str, /) -> None:
        """Handle a listening connection that was lost, or messages that were not answered."""


class RedisPubSub:
    """One Redis server: a connection that listens, made anew whenever it is lost, and others that send."""

    def __init__(
        self, name: str, publisher: Redis, listener: Redis, own_channel: str, timeout: float, *, stores: bool = True
    ) -> None:
        """Prepare to use the server; nothing is connected before `run`.

        `name` is for the log. `listener` must have no read timeout: `receives_own_messages` tells a quiet server from
        a broken connection. `own_channel` is always subscribed. `timeout` is how many seconds a call may take. Without
        `stores` the server keeps no histories, and their messages are only published.
        """
        self.name = name
        self.publisher = RedisPublisher(publisher, timeout, stores=stores)
        self.subscriber = RedisSubscriber(name, listener, own_channel, timeout)
        self.history = RedisHistory(publisher, timeout)
        self._client = publisher
        self._own_channel = own_channel
        self._timeout = timeout

    async def run(self, listener: PubSubListener) -> None:
        """Receive and send messages until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                receiving = run_repeatedly(lambda: self._stay_subscribed(listener), f"listener of {self.name}")
                tasks.create_task(receiving, name="listener")
                sending = run_repeatedly(
                    lambda: self.publisher.send_waiting(lambda reason: listener.failed(self, reason)),
                    f"publisher to {self.name}",
                )
                tasks.create_task(sending, name="publisher")
        finally:
            self.subscriber.forget_connection()
            self.publisher.give_up("the worker has stopped")  # nobody would send what waits, nor what comes

    async def _stay_subscribed(self, listener: PubSubListener) -> None:
        attempt = 0
        while True:
            try:
                await self.subscriber.receive(listener.text_received, lambda: listener.subscribed(self))
            except RedisUnavailableError as exc:
                attempt = 0 if self.subscriber.subscribed else attempt
                self.subscriber.forget_connection()
                await self._drop_idle_connections()
                if attempt == 0:
                    logger.warning("not subscribed at %s: %s", self.name, exc)
                listener.failed(self, str(exc))
            except Exception as exc:  # noqa: BLE001 - of whatever kind
                report(f"listener of {self.name}", exc)
                self.subscriber.forget_connection()
                listener.failed(self, "a fault in the listener")
            ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2**attempt)
            attempt = min(attempt + 1, 8)
            await asyncio.sleep(random.uniform(0, ceiling))

    async def receives_own_messages(self) -> bool:
        """Publish a probe to the own channel, and return whether it was received in time.

        Raises RedisUnavailableError if the probe could not even be sent.
        """
        probe = Outgoing(0, self._own_channel, PROBE + secrets.token_hex(8).encode())
        with self.subscriber.expecting(probe.text) as received:
            await self.publisher.publish(probe)
            return await wait_at_most(received, self._timeout)

    async def check_writes(self) -> None:
        """Write something small, since a replica accepts messages, but stores none, and hands them to few subscribers.

        A server that rejects the write, because its memory is full, for example, is not away.

        Raises RedisUnavailableError if Redis is away.
        """
        try:
            async with redis_errors(self._timeout):
                await self._client.set(probe_key(self._own_channel), b"", px=PROBE_MS)
        except RedisUnavailableError as exc:
            if not exc.rejected:
                raise

    async def count_subscribers(self, channel: str) -> int:
        """Return how many connections are subscribed to a channel.

        Raises RedisUnavailableError.
        """
        async with redis_errors(self._timeout):
            ((_, count),) = await self._client.pubsub_numsub(channel)
        return int(count)

    async def change_server(self) -> None:
        """Make all connections anew: after a failover, the host name leads to another server."""
        await self._drop_idle_connections()
        await self.subscriber.reconnect()

    async def _drop_idle_connections(self) -> None:
        """Close the idle connections of the pool, which were connected to the server that was lost."""
        await self._client.connection_pool.disconnect(inuse_connections=False)
