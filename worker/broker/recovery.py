"""The way back to Redis: finding out whether it can be used, and sending it the messages that waited for it."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from wsd.worker.background.containment import Containment
from wsd.worker.background.waiting import wait_at_most
from wsd.worker.broker.circuit_breaker import CircuitBreaker
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Spool
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.redis_keys import EVERY_WORKER
from wsd.worker.errors import RedisFailure, RedisUnavailableError
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

QUIET_SECONDS = 5.0
"""A worker that has received nothing for this long publishes a probe to its own channel."""

DEAF_AFTER = 3
"""After this many probes in a row that were not received, each on a new connection, the worker calls itself deaf."""

BOTH_WAYS_SECONDS = 5.0
"""For this long after its return, Redis is not trusted to reach the node's other workers: they come back one by one."""

OTHERS_SECONDS = 2.0
"""For this long after our own return, the spool waits for the other workers to be back, too."""

FLUSH_BATCH = 200
"""How many messages of the spool are sent at once."""


class Recovery:
    """Proves now and then that Redis can be used, and brings messages back to a Redis that was away.

    A worker is deaf when it can publish through Redis and does not receive what it publishes.
    """

    def __init__(
        self,
        redis: RedisPubSub,
        breaker: CircuitBreaker,
        spool: Spool,
        *,
        expected_workers: Callable[[], int],
        suspect: Callable[[str], None],
        on_rejected: Callable[[str, RedisUnavailableError], None],
    ) -> None:
        """Prepare to watch over a Redis.

        `expected_workers` returns how many workers there were when last counted. `suspect` is called with the reason
        when Redis turns out to be away, `on_rejected` with the channel of each message of the spool that Redis rejects.
        """
        self.both_ways_until = 0.0
        """Until when messages go through Redis and to the node's workers as well, by the monotonic clock."""
        self.failed_probes = 0
        self._redis = redis
        self._breaker = breaker
        self._spool = spool
        self._expected_workers = expected_workers
        self._suspect = suspect
        self._on_rejected = on_rejected
        self._deaf = 0  # failed probes in a row
        self._workers_before = 0  # Redis went away
        self._was_distributed = False
        self._wake = asyncio.Event()

    @property
    def distributed(self) -> bool:
        """True while messages go through Redis."""
        return self._breaker.closed and self._redis.subscriber.subscribed

    @property
    def deaf(self) -> bool:
        return self._deaf >= DEAF_AFTER

    def redis_lost(self) -> None:
        """Note that Redis has just been given up."""
        self._workers_before = self._expected_workers()
        # A worker that is never quiet never probes; it was subscribed all the same.
        self._was_distributed = self._was_distributed or self._redis.subscriber.connections > 0
        self._wake.set()

    def look_now(self) -> None:
        """Do not wait for the next look: something changed."""
        self._wake.set()

    async def watch(self, on_restored: Callable[[], None]) -> None:
        """Probe Redis until cancelled: now and then while it is in use, and after each pause while it is away.

        `on_restored` is called whenever Redis is back.
        """
        await self._redis.subscriber.wait_until_ready()
        while True:
            await self._until_due()
            if not self._breaker.try_again(time.monotonic()):
                continue
            if not self._redis.subscriber.subscribed:
                self._suspect(self._breaker.reason or "not connected")
                continue
            try:
                await self._redis.check_writes()
                receives = await self._redis.receives_own_messages()
            except RedisUnavailableError as exc:
                self._deaf = 0  # Redis is away, which is another matter
                self._suspect(str(exc))
                if exc.failure is RedisFailure.READ_ONLY:
                    await self._redis.change_server()
                continue
            if not receives:
                await self._reconnect_deaf()
                continue
            self._deaf = 0
            if self._breaker.succeeded():
                self.both_ways_until = time.monotonic() + BOTH_WAYS_SECONDS
                logger.info("Redis is back, %d messages were waiting for it", len(self._spool), extra=EVENT)
                on_restored()
                await self._wait_for_others()
            self._was_distributed = True
            await self._flush()

    async def _until_due(self) -> None:
        if self.distributed and not self._spool:
            quiet = time.monotonic() - self._redis.subscriber.received_at
            wait = max(0.0, QUIET_SECONDS - quiet)
        else:
            wait = self._breaker.wait(time.monotonic())
        self._wake.clear()
        await wait_at_most(self._wake, wait)

    async def _reconnect_deaf(self) -> None:
        self._deaf += 1
        self.failed_probes += 1
        logger.error("a probe through Redis was not received (%d in a row), connecting anew", self._deaf)
        self._suspect("connected, but nothing is received")
        await self._redis.subscriber.reconnect()

    async def _wait_for_others(self) -> None:
        """Wait, for a limited time, until the other workers are back: they would miss the messages of the spool.

        Messages with a history wait for nobody: whoever comes back later reads them. They wait only if this worker
        began while Redis was away, as others may have done: those do not know yet where the histories stand, and
        nobody knows how many workers there are.
        """
        expected = math.inf
        if self._was_distributed:
            if all(outgoing.retention is not None for outgoing in self._spool.first(len(self._spool))):
                return
            expected = max(self._workers_before, self._expected_workers())
        gives_up_at = time.monotonic() + OTHERS_SECONDS
        with suppress(RedisUnavailableError):
            while self._spool and time.monotonic() < gives_up_at:
                if await self._redis.count_subscribers(EVERY_WORKER) >= expected:
                    return
                await asyncio.sleep(OTHERS_SECONDS / 20)

    async def _flush(self) -> None:
        """Send the messages of the spool, the oldest first. Messages that come meanwhile queue up behind them."""
        while self._spool and self.distributed:
            batch = self._spool.first(FLUSH_BATCH)
            try:
                results = await self._redis.publisher.publish_all(batch)
            except RedisUnavailableError:
                return
            self._spool.remove(batch)
            lost: dict[str, str] = {}  # epochs by channel
            for outgoing, result in zip(batch, results, strict=True):
                if isinstance(result, RedisUnavailableError):
                    self._on_rejected(outgoing.channel, result)
                elif result is not None and outgoing.position is not None:
                    if result[1] and result[0].epoch == outgoing.position.epoch:
                        lost[outgoing.channel] = result[0].epoch
                elif result is not None and outgoing.on_stored is not None:
                    with Containment("redis broker: telling of a stored message"):
                        outgoing.on_stored(result[0])
            await self._end_epochs(lost)

    async def _end_epochs(self, epochs: Mapping[str, str]) -> None:
        """End the epochs of channels whose history has lost messages that were acknowledged, and are stored again now.

        Such a history goes another way than that of the old server, even where both look alike at the end.
        """
        if epochs:
            logger.warning(
                "messages that were acknowledged are stored again: Redis lacked some of %d channels", len(epochs)
            )
        for channel, epoch in epochs.items():
            with suppress(RedisUnavailableError):  # the feeds find most such histories, too
                await self._redis.history.renew_epoch(channel, epoch)
