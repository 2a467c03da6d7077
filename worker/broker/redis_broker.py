"""Messages between workers over Redis, and what happens to them while Redis is away.

    DISTRIBUTED  Redis carries everything.
    STAND_IN     it is away: the node's own Valkey reaches this node's workers, the spool keeps all for the others.
    LOCAL        it is away, and there is no stand-in: this worker's members get it at once, the others by the spool.

A publish that failed may have been carried out all the same, what Redis took just before it went may not have reached
everybody, and what the spool sends later was heard here already. So what is in doubt is sent again, every message has a
number, and nobody delivers one twice: `seen_messages`. The way back is proven, not assumed: a worker counts as
distributed again once it heard itself through Redis, and goes on to use the stand-in for a moment, for neighbours that
are not back yet.
"""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from redis.exceptions import ReadOnlyError

from wsd.worker.broker.circuit_breaker import CircuitBreaker
from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import AppendResult, Entry, HistoryQuery, Page, Retention
from wsd.worker.broker.message_broker import (
    BrokerHealth,
    BrokerStatistics,
    MessageBroker,
    Mode,
    OnAppended,
    Receive,
    Told,
)
from wsd.worker.broker.redis_history import parse_message
from wsd.worker.broker.redis_pubsub import RedisPubSub, StoredAt
from wsd.worker.broker.spool import Outgoing, Spool
from wsd.worker.containment import Containment, run_repeatedly
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.redis_keys import EVERY_WORKER
from wsd.worker.errors import NotStoredError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import LOST, RedisError, is_refusal, refusal_text
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire.position import Position

logger = get_logger(__name__)

HEARING_SECONDS = 5.0
"""Who heard nothing for so long sends a message to itself, to see whether it hears."""

DEAF_AFTER = 3
"""Failed hearing tests in a row, each with a new connection, after which the worker calls itself deaf."""

BOTH_WAYS_SECONDS = 5.0
"""How long after its return Redis is not trusted to reach the neighbours: they come back each by themselves."""

OTHERS_SECONDS = 2.0
"""How long what the spool holds waits, after our own return, for the other workers to be back, too."""

FLUSH_BATCH = 200

REFUSAL_LOG_SECONDS = 10.0
"""How often a refusal is logged, at most: where one message is refused, many are."""


class RedisMessageBroker(MessageBroker):
    def __init__(
        self,
        receive: Receive,
        primary: RedisPubSub,
        stand_in: RedisPubSub | None,
        breaker: CircuitBreaker,
        spool: Spool,
        *,
        expected_workers: Callable[[], int],
    ) -> None:
        """`expected_workers`: how many workers there were when last counted, in a Redis that may have begun anew."""
        super().__init__(receive)
        # Of this process, not of the worker's name: its numbers begin with 1, and a name may come back.
        self._origin = secrets.token_hex(6).encode()
        self.primary = primary
        self._stand_in = stand_in
        self._breaker = breaker
        self._spool = spool
        self._expected_workers = expected_workers
        self._workers_before = 0  # Redis went away
        self._was_distributed = False
        self._seen = SeenMessages()
        self._channels: set[str] = set()
        self._look = asyncio.Event()  # for the watch: something changed
        self._both_ways_until = 0.0
        self._deaf = 0
        self._hearing_failures = 0
        self._published = self._heard = self._duplicates = self._refused = 0
        self._log_refusal_at = 0.0
        primary.on_lost = primary.on_failed = self.suspect

    async def run(self) -> None:
        self.primary.on_hearing = self.on_hearing
        await self.subscribe(EVERY_WORKER)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.primary.run(self._hear), name="redis")
            if self._stand_in is not None:
                tasks.create_task(self._stand_in.run(self._hear), name="stand-in")
            tasks.create_task(run_repeatedly(self._watch, "redis watch"), name="redis-watch")

    async def wait_until_ready(self) -> None:
        await asyncio.gather(*(way.wait_until_ready() for way in self._ways))

    async def subscribe(self, *channels: str) -> None:
        self._channels.update(channels)
        await asyncio.gather(*(way.subscribe(channels, confirm=self._distributed) for way in self._ways))

    async def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        await asyncio.gather(*(way.unsubscribe([channel]) for way in self._ways))

    def publish_soon(self, channel: str, payload: bytes, told: Told) -> None:
        outgoing = self._numbered(channel, payload)

        def sent(result: StoredAt | Exception | None) -> None:
            if not isinstance(result, Exception):
                if self._stand_in is not None and time.monotonic() < self._both_ways_until:
                    self._send_nearby(outgoing, lambda: told(True))
                else:
                    told(True)
            elif is_refusal(result):
                self._note_refusal(channel, result)
                self._send_nearby(outgoing, lambda: told(False))
            else:
                self._send_later(outgoing, lambda: told(False))

        if self._direct:
            self.primary.send(outgoing, sent)
        else:
            self._send_later(outgoing, lambda: told(False))

    def append_soon(
        self,
        channel: str,
        payload: bytes,
        keep: Retention,
        told: OnAppended,
        on_stored: Callable[[Position], None] | None = None,
    ) -> None:
        outgoing = self._numbered(channel, payload, keep, on_stored)

        def sent(result: StoredAt | Exception | None) -> None:
            if isinstance(result, tuple):
                position, is_new = result
                entry = Entry(self._origin, outgoing.number, payload, position) if is_new else None
                told(AppendResult(position, entry))
            elif result is not None and is_refusal(result):
                self._note_refusal(channel, result)
                told(NotStoredError(refusal_text(result)))
            else:
                self._send_later(outgoing, lambda: told(None))

        if self._direct:
            self.primary.send(outgoing, sent)
        else:
            self._send_later(outgoing, lambda: told(None))

    async def read(self, wanted: Sequence[HistoryQuery]) -> list[Page]:
        if not self._distributed:
            raise RedisError(self._breaker.reason or "not connected yet")
        try:
            return await self.primary.read(wanted)
        except LOST as exc:
            raise_if_cancelled()
            if not is_refusal(exc):
                self.suspect(str(exc) or "no answer in time")
            raise

    async def renew_epoch(self, channel: str, epoch: str) -> None:
        await self.primary.renew_epoch(channel, epoch)

    def suspect(self, reason: str) -> None:
        if self._breaker.failed(time.monotonic(), reason):
            logger.warning("Redis is away, %s: %s", self._consequence, reason)
            self._workers_before = self._expected_workers()
            for outgoing in self.primary.just_sent():
                self._send_again(outgoing)
            self.primary.give_up(reason)
            self._look.set()

    @property
    def health(self) -> BrokerHealth:
        reason = self._breaker.reason
        if self._distributed:
            mode = Mode.DISTRIBUTED
        else:
            mode = Mode.FALLBACK if self._stand_in is not None and self._stand_in.hearing else Mode.LOCAL
            reason = reason or "not connected yet"
        return BrokerHealth(mode, self._breaker.state, reason, deaf=self._deaf >= DEAF_AFTER)

    @property
    def statistics(self) -> BrokerStatistics:
        return BrokerStatistics(
            channels=len(self._channels),
            published=self._published,
            heard=self._heard,
            duplicates=self._duplicates,
            reconnects=self.primary.connections,
            spooled=len(self._spool),
            spool_bytes=self._spool.bytes,
            dropped=self._spool.dropped + self._refused,
            refused=self._refused,
            breaker_opened=self._breaker.opened,
            hearing_failures=self._hearing_failures,
        )

    @property
    def _ways(self) -> list[RedisPubSub]:
        return [self.primary] if self._stand_in is None else [self.primary, self._stand_in]

    @property
    def _distributed(self) -> bool:
        return self._breaker.closed and self.primary.hearing

    @property
    def _consequence(self) -> str:
        return "messages stay on this node" if self._stand_in is not None else "messages stay on this worker"

    @property
    def _direct(self) -> bool:
        """What waits in the spool goes first: messages keep their order."""
        return self._distributed and not self._spool

    def _numbered(
        self,
        channel: str,
        payload: bytes,
        keep: Retention | None = None,
        on_stored: Callable[[Position], None] | None = None,
    ) -> Outgoing:
        self._published += 1
        message = b"%s %d %s" % (self._origin, self._published, payload)
        return Outgoing(self._published, channel, message, keep, on_stored)

    def _note_refusal(self, channel: str, reason: BaseException) -> None:
        """Count a message that Redis does not take, and log it, unless one has just been logged."""
        self._refused += 1
        now = time.monotonic()
        if now >= self._log_refusal_at:
            self._log_refusal_at = now + REFUSAL_LOG_SECONDS
            logger.warning("Redis refuses messages (%d so far), one on %s: %s", self._refused, channel, reason)

    def _hear(self, channel: str, text: bytes) -> None:
        """`text`: see `Outgoing.text`."""
        try:
            position, message = text.split(b" ", 1)
            origin, number, payload = parse_message(message)
            where = Position.parse(position) if position not in (b"-", b"~") else None
        except ValueError:
            logger.warning("dropped what is no message of a worker on %s", channel)
            return
        if position != b"-":
            if channel in self._channels:
                self._heard += 1
                self.on_entry(channel, Entry(origin, number, payload, where))
        elif number != 0 and not self._seen.add(origin, number):
            self._duplicates += 1
        elif channel in self._channels:
            self._heard += 1
            self.receive(channel, payload)

    def _send_again(self, outgoing: Outgoing) -> None:
        """Before anything newer, and once more when Redis is back. Who had it knows its number, or its position."""
        if outgoing.keep is None:
            self._spool.add(outgoing)
        self._send_nearby(outgoing, lambda: None)

    def _send_later(self, outgoing: Outgoing, then: Callable[[], None]) -> None:
        self._spool.add(outgoing)
        if self._breaker.closed:
            self._look.set()  # it will not be long
        self._send_nearby(outgoing, then)

    def _send_nearby(self, outgoing: Outgoing, then: Callable[[], None]) -> None:
        """To whom can be reached without Redis: this node's workers, or just this one."""

        def sent(result: StoredAt | Exception | None) -> None:
            if isinstance(result, Exception):
                logger.warning("the stand-in does not answer, delivered on this worker only: %s", result)
                self._hear(outgoing.channel, outgoing.text)
            then()

        if self._stand_in is not None and self._stand_in.hearing:
            self._stand_in.send(outgoing, sent)
        else:
            self._hear(outgoing.channel, outgoing.text)
            then()

    # The way back

    async def _watch(self) -> None:
        """Prove that we hear: now and then while all is well, again and again while it is not."""
        await self.primary.wait_until_ready()
        while True:
            await self._until_due()
            if not self._breaker.try_again(time.monotonic()):
                continue
            if not self.primary.hearing:
                self.suspect(self._breaker.reason or "not connected")
                continue
            try:
                await self.primary.check_writes()
                hears = await self.primary.proves_hearing()
            except LOST as exc:
                raise_if_cancelled()
                self._deaf = 0  # it is away: that is another matter
                self.suspect(str(exc) or "no answer in time")
                if isinstance(exc, ReadOnlyError):
                    await self.primary.change_server()
                continue
            raise_if_cancelled()
            if not hears:
                await self._reconnect_deaf()
                continue
            self._deaf = 0
            if self._breaker.succeeded():
                self._both_ways_until = time.monotonic() + BOTH_WAYS_SECONDS
                logger.info("Redis is back, %d messages were waiting for it", len(self._spool), extra=EVENT)
                self.on_return()
                await self._await_the_others()
            self._was_distributed = True
            await self._flush()

    async def _until_due(self) -> None:
        if self._breaker.closed and self.primary.hearing and not self._spool:
            quiet = time.monotonic() - self.primary.heard_at
            wait = max(0.0, HEARING_SECONDS - quiet)
        else:
            wait = self._breaker.wait(time.monotonic())
        self._look.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._look.wait()

    async def _reconnect_deaf(self) -> None:
        self._deaf += 1
        self._hearing_failures += 1
        logger.error("what we publish through Redis is not heard (%d in a row), connecting anew", self._deaf)
        self.suspect("connected, but nothing is heard")
        await self.primary.reconnect()

    async def _await_the_others(self) -> None:
        """Those who are not back yet would miss what the spool holds; but they have their time.

        What is kept in a history waits for nobody, unless we began while Redis was away: others may have done so, too.
        They do not know yet where the history is, and nobody how many they are.
        """
        expected = math.inf
        if self._was_distributed:
            if all(outgoing.keep is not None for outgoing in self._spool.first(len(self._spool))):
                return
            expected = max(self._workers_before, self._expected_workers())
        gives_up_at = time.monotonic() + OTHERS_SECONDS
        with suppress(*LOST):
            while self._spool and time.monotonic() < gives_up_at:
                if await self.primary.count_hearers(EVERY_WORKER) >= expected:
                    return
                await asyncio.sleep(OTHERS_SECONDS / 20)
        raise_if_cancelled()

    async def _flush(self) -> None:
        """Send what waits, the oldest first; what is published meanwhile queues up behind it."""
        while self._spool and self._distributed:
            batch = self._spool.first(FLUSH_BATCH)
            try:
                results = await self.primary.publish_all(batch)
            except LOST:
                raise_if_cancelled()
                return
            self._spool.remove(batch)
            for outgoing, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    self._note_refusal(outgoing.channel, result)
                elif result is not None and outgoing.on_stored is not None:
                    with Containment("redis broker: telling of a stored message"):
                        outgoing.on_stored(result[0])
