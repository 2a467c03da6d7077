"""One Redis as a way for messages: one connection listens, reconnecting for ever; what is to be published at one time
shares a pipeline on another."""

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wsd.worker.link import LOST, Redis, RedisError, is_refusal, raise_if_cancelled
from wsd.worker.message_broker import Receive
from wsd.worker.spool import Entry

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

logger = logging.getLogger(__name__)

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 1.0
"""Full jitter up to this: with the breaker's pause, a Redis that is back is in use again within 2 s."""

SETTLE_SECONDS = 2.0

PIPELINE_MESSAGES = 500

TOKEN = b"hear "
"""What a worker sends to itself to prove that it hears begins with this, and no message does."""


class RedisPubSub:
    """Hears `own_channel` always, so that the connection is never without a subscription.

    `listener` must have no read timeout: a quiet minute is not a broken connection, `proves_hearing` tells.
    """

    def __init__(self, name: str, publisher: Redis, listener: Redis, own_channel: str, timeout: float) -> None:
        """`name` is for the log; `timeout`: seconds that a publish or a subscription may take."""
        self.name = name
        self.hearing = False  # connected, and all that was subscribed before is again
        self.heard_at = 0.0  # when anything came, by the monotonic clock
        self.connections = 0
        self.on_lost: Callable[[str], None] = lambda reason: None
        self._publisher = publisher
        self._listener = listener
        self._own_channel = own_channel
        self._timeout = timeout
        self._channels = {own_channel}
        self._sent: set[str] = set()  # told to the present connection
        self._confirmed: set[str] = set()  # heard back from it
        self._confirmations: dict[str, asyncio.Event] = {}
        self._telling = asyncio.Lock()
        self._pubsub: PubSub | None = None
        self._settled = asyncio.Event()
        self._tokens: dict[bytes, asyncio.Event] = {}
        self._unsent: deque[tuple[str, bytes, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()

    async def run(self, receive: Receive) -> None:
        """Hear and publish messages until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear_for_ever(receive), name="listener")
            tasks.create_task(self._send_for_ever(), name="publisher")

    async def _hear_for_ever(self, receive: Receive) -> None:
        attempt = 0
        while True:
            try:
                await self._hear(receive)
            except LOST as exc:
                raise_if_cancelled()
                attempt = 0 if self.hearing else attempt
                self._forget_connection()
                # What waits in the pool was connected to the same dead server.
                await self._publisher.connection_pool.disconnect(inuse_connections=False)
                if attempt == 0:
                    logger.warning("not hearing %s: %s", self.name, exc)
                self.on_lost(str(exc) or type(exc).__name__)
            ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2**attempt)
            attempt = min(attempt + 1, 8)
            await asyncio.sleep(random.uniform(0, ceiling))

    async def settle(self) -> None:
        """Wait until it hears, or has seen that it cannot for now."""
        with suppress(TimeoutError):  # a server that takes the connection and says nothing
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settled.wait()

    async def subscribe(self, channel: str, *, confirm: bool) -> None:
        """With `confirm` the channel is heard from its return on; where there is no connection, once there is one."""
        self._channels.add(channel)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._follow(channel)
                if confirm and channel in self._sent and channel not in self._confirmed:
                    await self._confirmations.setdefault(channel, asyncio.Event()).wait()

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._follow(channel)

    async def publish(self, channel: str, payload: bytes) -> None:
        """In the order of the calls. Raises one of LOST; the message may have been sent all the same."""
        async with asyncio.timeout(self._timeout):
            await self._enqueue(channel, payload)

    async def publish_all(self, entries: Iterable[Entry]) -> int:
        """How many Redis refused. Raises one of LOST when it does not answer."""
        async with asyncio.timeout(self._timeout):
            results = await asyncio.gather(*(self._enqueue(*entry) for entry in entries), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not is_refusal(failure):
                raise failure
        return len(failures)

    def _enqueue(self, channel: str, payload: bytes) -> "asyncio.Future[None]":
        sent = asyncio.get_running_loop().create_future()
        self._unsent.append((channel, payload, sent))
        self._wake.set()
        return sent

    async def _send_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent:
                batch = [self._unsent.popleft() for _ in range(min(PIPELINE_MESSAGES, len(self._unsent)))]
                # Who does not wait any more has found another way for its message.
                await self._send([entry for entry in batch if not entry[2].done()])

    async def _send(self, batch: list[tuple[str, bytes, asyncio.Future[None]]]) -> None:
        results: list[object]
        try:
            async with asyncio.timeout(self._timeout), self._publisher.pipeline(transaction=False) as pipe:
                for channel, payload, _ in batch:
                    pipe.publish(channel, payload)
                results = await pipe.execute(raise_on_error=False)
        except LOST as exc:
            results = [exc] * len(batch)
        raise_if_cancelled()
        for (_, _, sent), result in zip(batch, results, strict=True):
            if sent.done():
                continue
            if isinstance(result, Exception):
                sent.set_exception(result)
            else:
                sent.set_result(None)

    async def proves_hearing(self) -> bool:
        """Send a token to ourselves: whether it was heard. Raises one of LOST when it could not even be sent."""
        token = TOKEN + secrets.token_hex(8).encode()
        heard = self._tokens[token] = asyncio.Event()
        try:
            await self.publish(self._own_channel, token)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await heard.wait()
            return heard.is_set()
        finally:
            del self._tokens[token]

    async def count_hearers(self, channel: str) -> int:
        """How many connections are subscribed to a channel. Raises one of LOST."""
        async with asyncio.timeout(self._timeout):
            ((_, count),) = await self._publisher.pubsub_numsub(channel)
        return int(count)

    async def reconnect(self) -> None:
        """Give the listening connection up for a new one."""
        connection: Any = self._pubsub.connection if self._pubsub is not None else None
        if connection is not None:
            await connection.disconnect(nowait=True)

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

    def _forget_connection(self) -> None:
        self.hearing = False
        self._pubsub = None
        self._sent.clear()
        self._confirmed.clear()
        self._settled.set()

    async def _hear(self, receive: Receive) -> None:
        async with self._listener.pubsub() as pubsub:
            async with self._telling:
                self._sent = set(self._channels)
                await pubsub.subscribe(*self._sent)
                self._pubsub = pubsub
            while True:
                message = await pubsub.get_message(timeout=None)
                if message is None:
                    continue
                self.heard_at = time.monotonic()
                channel = message["channel"].decode()
                if message["type"] == "message":
                    data: bytes = message["data"]
                    if not data.startswith(TOKEN):
                        receive(channel, data)
                    elif (token := self._tokens.get(data)) is not None:
                        token.set()
                elif message["type"] == "subscribe":
                    self._confirm(channel)

    def _confirm(self, channel: str) -> None:
        if channel in self._sent:
            self._confirmed.add(channel)
        if (waiting := self._confirmations.pop(channel, None)) is not None:
            waiting.set()
        if not self.hearing and self._confirmed >= self._sent:
            self.hearing = True
            self.connections += 1
            self._settled.set()
            logger.info("hearing %d channels over %s", len(self._channels), self.name)
