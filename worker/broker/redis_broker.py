"""The broker of a worker that shares a Redis with others, and what happens to messages while that Redis is away.

While the circuit breaker is closed, messages go through Redis. While it is open, nobody waits for Redis: messages go
through the fallback, a Valkey of this node, to the workers of this node (without a fallback: to this worker's own
members), and wait in the spool for the others. `Recovery` finds out when Redis is back.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.broker.circuit_breaker import CircuitBreaker
from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import AppendResult, Entry, HistoryQuery, Page, Retention, StoredAt
from wsd.worker.broker.message_broker import (
    BrokerHealth,
    BrokerStatistics,
    MessageBroker,
    Mode,
    OnAppended,
    OnPublished,
    OnStored,
)
from wsd.worker.broker.message_format import NO_HISTORY, parse_text
from wsd.worker.broker.recovery import Recovery
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Outgoing, Spool
from wsd.worker.contract.redis_keys import EVERY_WORKER
from wsd.worker.errors import NotStoredError, RedisUnavailableError
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

REJECTION_LOG_SECONDS = 10.0
"""How often a rejected message is logged, at most: where one message is rejected, many are."""


class RedisMessageBroker(MessageBroker):
    """A broker that sends through a Redis, and through a fallback or a spool while that Redis is away."""

    def __init__(
        self,
        primary: RedisPubSub,
        fallback: RedisPubSub | None,
        breaker: CircuitBreaker,
        spool: Spool,
        *,
        expected_workers: Callable[[], int],
    ) -> None:
        """Prepare to use a Redis; nothing is connected before `run`.

        `expected_workers` returns how many workers there were when last counted, also for a Redis that began anew.
        """
        # Of this process, not of the worker's name: its numbers begin with 1, and a name may come back.
        self._origin = secrets.token_hex(6).encode()
        self.primary = primary
        self._fallback = fallback
        self._breaker = breaker
        self._spool = spool
        self._recovery = Recovery(
            primary,
            breaker,
            spool,
            expected_workers=expected_workers,
            suspect=self.suspect,
            on_rejected=self._note_rejection,
        )
        self._seen = SeenMessages()
        self._channels: set[str] = set()
        self._published = self._received = self._duplicates = self._rejected = 0
        self._log_rejection_at = 0.0

    async def run(self) -> None:
        await self.subscribe(EVERY_WORKER)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.primary.run(self), name="redis")
            if self._fallback is not None:
                tasks.create_task(self._fallback.run(self), name="fallback")
            watch = run_repeatedly(lambda: self._recovery.watch(self.listener.redis_restored), "redis watch")
            tasks.create_task(watch, name="redis-watch")

    async def wait_until_ready(self) -> None:
        await asyncio.gather(*(server.subscriber.wait_until_ready() for server in self._servers))

    async def subscribe(self, *channels: str) -> None:
        self._channels.update(channels)
        confirm = self._recovery.distributed
        await asyncio.gather(*(server.subscriber.subscribe(channels, confirm=confirm) for server in self._servers))

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        await asyncio.gather(*(server.subscriber.unsubscribe([channel]) for server in self._servers))

    def publish_soon(self, channel: str, payload: bytes, on_result: OnPublished) -> None:
        outgoing = self._numbered(channel, payload)

        def sent(result: StoredAt | RedisUnavailableError | None) -> None:
            if not isinstance(result, RedisUnavailableError):
                if self._fallback is not None and time.monotonic() < self._recovery.both_ways_until:
                    self._send_nearby(outgoing, lambda: on_result(True))
                else:
                    on_result(True)
            elif result.rejected:
                self._note_rejection(channel, result)
                self._send_nearby(outgoing, lambda: on_result(False))
            else:
                self._send_later(outgoing, lambda: on_result(False))

        if self._direct:
            self.primary.publisher.send(outgoing, sent)
        else:
            self._send_later(outgoing, lambda: on_result(False))

    def append_soon(
        self,
        channel: str,
        payload: bytes,
        retention: Retention,
        on_result: OnAppended,
        on_stored: OnStored | None = None,
    ) -> None:
        outgoing = self._numbered(channel, payload, retention, on_stored)

        def sent(result: StoredAt | RedisUnavailableError | None) -> None:
            if isinstance(result, tuple):
                position, is_new = result
                entry = Entry(self._origin, outgoing.number, payload, position) if is_new else None
                on_result(AppendResult(position, entry))
            elif result is not None and result.rejected:
                self._note_rejection(channel, result)
                on_result(NotStoredError(f"the message is not stored: {result.public_reason}"))
            else:
                self._send_later(outgoing, lambda: on_result(None))

        if self._direct:
            self.primary.publisher.send(outgoing, sent)
        else:
            self._send_later(outgoing, lambda: on_result(None))

    async def read(self, queries: Sequence[HistoryQuery]) -> list[Page]:
        if not self._recovery.distributed:
            raise RedisUnavailableError(self._breaker.reason or "not connected yet")
        try:
            return await self.primary.history.read(queries)
        except RedisUnavailableError as exc:
            if not exc.rejected:
                self.suspect(str(exc))
            raise

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        await self.primary.history.renew_epoch(channel, epoch)

    async def delete_history(self, channel: str, up_to: int | None = None) -> None:
        if not self._recovery.distributed:
            raise RedisUnavailableError(self._breaker.reason or "not connected yet")
        await self.primary.history.delete(channel, up_to)

    def suspect(self, reason: str) -> None:
        if self._breaker.failed(time.monotonic(), reason):
            logger.warning("Redis is away, %s: %s", self._consequence, reason)
            self._recovery.redis_lost()
            for outgoing in self._just_sent:
                self._send_again(outgoing)
            self.primary.publisher.give_up(reason)

    def server_replaced(self, reason: str) -> None:
        for outgoing in self._just_sent:
            if outgoing.retention is not None:
                self._spool.add(outgoing)
        self.suspect(reason)

    @property
    def health(self) -> BrokerHealth:
        reason = self._breaker.reason
        if self._recovery.distributed:
            mode = Mode.DISTRIBUTED
        else:
            mode = Mode.LOCAL if self._subscribed_fallback is None else Mode.FALLBACK
            reason = reason or "not connected yet"
        return BrokerHealth(mode, self._breaker.state, reason, deaf=self._recovery.deaf)

    @property
    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(
            channels=len(self._channels),
            published=self._published,
            heard=self._received,
            duplicates=self._duplicates,
            reconnects=self.primary.subscriber.connections,
            spooled=len(self._spool),
            spool_bytes=self._spool.bytes,
            dropped=self._spool.dropped + self._rejected,
            refused=self._rejected,
            breaker_opened=self._breaker.opened,
            hearing_failures=self._recovery.failed_probes,
        )

    # Reports of the servers, see PubSubListener

    def text_received(self, channel: str, text: bytes, /) -> None:
        try:
            marker, position, origin, number, payload = parse_text(text)
        except ValueError:
            logger.warning("dropped what is no message of a worker on %s", channel)
            return
        if marker != NO_HISTORY:
            if channel in self._channels:
                self._received += 1
                self.listener.entry_received(channel, Entry(origin, number, payload, position))
        elif number != 0 and not self._seen.add(origin, number):
            self._duplicates += 1
        elif channel in self._channels:
            self._received += 1
            self.listener.message_received(channel, payload)

    def subscribed(self, server: RedisPubSub, /) -> None:
        if server is self.primary:
            self.listener.subscriptions_restored()

    def failed(self, server: RedisPubSub, reason: str, /) -> None:
        if server is self.primary:
            self.suspect(reason)

    # Ways of a message

    @property
    def _just_sent(self) -> list[Outgoing]:
        """The messages that Redis took shortly before its last sign of life."""
        return self.primary.publisher.just_sent(self.primary.subscriber.received_at)

    @property
    def _servers(self) -> list[RedisPubSub]:
        return [self.primary] if self._fallback is None else [self.primary, self._fallback]

    @property
    def _consequence(self) -> str:
        return "messages stay on this node" if self._fallback is not None else "messages stay on this worker"

    @property
    def _direct(self) -> bool:
        """True if a message may go to Redis at once. The spool goes first, so that messages keep their order."""
        return self._recovery.distributed and not self._spool

    @property
    def _subscribed_fallback(self) -> RedisPubSub | None:
        """The fallback, if it can be used now."""
        return self._fallback if self._fallback is not None and self._fallback.subscriber.subscribed else None

    def _numbered(
        self,
        channel: str,
        payload: bytes,
        retention: Retention | None = None,
        on_stored: OnStored | None = None,
    ) -> Outgoing:
        self._published += 1
        message = b"%s %d %s" % (self._origin, self._published, payload)
        return Outgoing(self._published, channel, message, retention, on_stored)

    def _note_rejection(self, channel: str, error: RedisUnavailableError) -> None:
        """Count a message that Redis rejected, and log it, unless one has just been logged."""
        self._rejected += 1
        now = time.monotonic()
        if now >= self._log_rejection_at:
            self._log_rejection_at = now + REJECTION_LOG_SECONDS
            logger.warning("Redis rejects messages (%d so far), one on %s: %s", self._rejected, channel, error)

    def _send_again(self, outgoing: Outgoing) -> None:
        """Send a message that Redis took before it went away: nearby now, and through Redis once it is back.

        Receivers that had the message know its number, or its position. A message with a history is stored already.
        """
        if outgoing.retention is None:
            self._spool.add(outgoing)
        self._send_nearby(outgoing, lambda: None)

    def _send_later(self, outgoing: Outgoing, then: Callable[[], None]) -> None:
        """Put a message into the spool, and send it nearby now. `then` is called when it was sent nearby."""
        self._spool.add(outgoing)
        if self._breaker.closed:
            self._recovery.look_now()  # Redis may take it very soon
        self._send_nearby(outgoing, then)

    def _send_nearby(self, outgoing: Outgoing, then: Callable[[], None]) -> None:
        """Send through the fallback, or deliver to this worker's own members if the fallback is away, too."""

        def sent(result: StoredAt | RedisUnavailableError | None) -> None:
            if isinstance(result, RedisUnavailableError):
                logger.warning("the fallback does not answer, delivered on this worker only: %s", result)
                self.text_received(outgoing.channel, outgoing.text)
            then()

        if (fallback := self._subscribed_fallback) is not None:
            fallback.publisher.send(outgoing, sent)
        else:
            self.text_received(outgoing.channel, outgoing.text)
            then()
