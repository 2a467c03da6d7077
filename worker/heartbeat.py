"""The worker's sign of life: a record in Redis every second, and the event loop's lag."""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from wsd.worker.broker.message_broker import UNNUMBERED
from wsd.worker.containment import run_repeatedly
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState
from wsd.worker.contract.redis_keys import EVERY_WORKER, LIVE_WORKERS_KEY, SESSIONS_KEY, heartbeat_key
from wsd.worker.logs import get_logger
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager, WorkerCame
from wsd.worker.redis_client import Redis, RedisError, is_unusable
from wsd.worker.roster import Roster
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire.messages import encode

logger = get_logger(__name__)

LAG_SAMPLE_SECONDS = 0.25

GATHER_SECONDS = 0.05
"""How long several workers that come in one moment are waited for, so that one beat finds them all."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# One script, by the server's clock: no worker's clock can make another look dead.
# KEYS heartbeat, live workers, sessions; ARGV record, ttl in ms, worker id, channel of all workers, what they are told
# when this one was not known, so that they count it at once and not only at their next beat.
# Answers whether it was known, the live workers' ids, and how many sessions live.
BEAT_SCRIPT = """
local known = redis.call('EXISTS', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if known == 0 then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return {known, redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('ZCOUNT', KEYS[3], now / 1000, '+inf')}
"""

ANNOUNCEMENT = UNNUMBERED + encode(WorkerCame())
"""Published past the broker: what tells of a worker that is back must not wait with the messages that were spooled."""


@dataclass(frozen=True)
class ClusterTotals:
    workers: int
    sessions: int


class HeartbeatTask:
    """Beats every `heartbeat_interval` seconds until cancelled, then takes the record away.

    Without Redis it only measures: the record is still served by /health.
    """

    def __init__(self, env: WorkerEnv, manager: DistributedWebSocketManager, redis: Redis | None) -> None:
        self.state = WorkerState.STARTING
        self.redis_healthy = False
        self.begun = asyncio.Event()  # the first beat was sent, or could not be
        self._env = env
        self._manager = manager
        self._redis = redis
        self._beat = redis.register_script(BEAT_SCRIPT) if redis is not None else None
        self._started = time.monotonic()
        self._count = 0
        self._lag = 0.0
        self._totals: ClusterTotals | None = None
        self._roster = Roster(env.heartbeat_interval, grace=env.heartbeat_ttl)
        self._somebody_came = asyncio.Event()
        manager.on_worker_came = self._somebody_came.set

    @property
    def live_workers(self) -> frozenset[str]:
        """The ids of the workers that live, as far as known."""
        return self._roster.live

    def judges(self) -> bool:
        """Tell whether a worker whose heartbeat is missing is dead, see `Roster`."""
        return self._roster.judges(time.monotonic())

    @property
    def totals(self) -> ClusterTotals:
        """Of the cluster while Redis answers, else of this worker."""
        if self._totals is not None and self.redis_healthy:
            return self._totals
        return ClusterTotals(1, self._manager.connection_count)

    def record(self) -> Heartbeat:
        return Heartbeat(
            worker_id=self._env.worker_id,
            node_id=self._env.node_id,
            slot=self._env.slot,
            pid=os.getpid(),
            beat=self._count,
            uptime=time.monotonic() - self._started,
            state=self.state,
            connections=self._manager.connection_count,
            messages_in=self._manager.messages_in,
            messages_out=self._manager.messages_out,
            loop_lag=self._lag,
            rss=_rss(),
            redis=self.redis_healthy and self._manager.broker.healthy,
            deaf=self._manager.broker.health.deaf,
            refused=self._manager.broker.statistics.refused,
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_repeatedly(self._measure_lag, "heartbeat: loop lag"), name="loop-lag")
            tasks.create_task(run_repeatedly(self._beat_for_ever, "heartbeat"), name="heartbeat")

    async def _beat_for_ever(self) -> None:
        try:
            while True:
                self._count += 1
                await self.beat_now()
                raise_if_cancelled()
                self.begun.set()
                self._lag = 0.0
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._env.heartbeat_interval):
                        await self._somebody_came.wait()
                        await asyncio.sleep(GATHER_SECONDS)
                self._somebody_came.clear()
        finally:
            await self._say_goodbye()

    async def beat_now(self) -> None:
        """Write the record, and count the others.

        A Redis that hangs holds it up for `heartbeat_interval` at most: the supervisor takes a count that stands still
        for a worker whose background work has ended.
        """
        if self._beat is None:
            return
        # Whoever reads it there knows that it came through; what is left to say is whether we hear, too.
        record = replace(self.record(), redis=self._manager.broker.healthy)
        keys = [heartbeat_key(record.worker_id), LIVE_WORKERS_KEY, SESSIONS_KEY]
        ttl_ms = int(self._env.heartbeat_ttl * 1000)
        arguments: list[str | int | bytes] = [record.to_json(), ttl_ms, record.worker_id, EVERY_WORKER, ANNOUNCEMENT]
        try:
            async with asyncio.timeout(self._env.heartbeat_interval):
                was_known, workers, sessions = await self._beat(keys, arguments)
        except (RedisError, OSError) as exc:
            if self.redis_healthy:
                logger.warning("heartbeat failed: %s", exc)
            self.redis_healthy = False
            if is_unusable(exc):
                self._manager.broker.suspect(str(exc))  # nothing may be published for long
        else:
            self.redis_healthy = True
            found = frozenset(worker.decode(errors="replace") for worker in workers)
            self._roster.seen(found, time.monotonic(), was_known=bool(was_known))
            self._totals = ClusterTotals(len(self.live_workers), sessions)
            self._manager.workers_seen(self.live_workers)
            if not was_known:
                self._manager.rewrite()

    async def _say_goodbye(self) -> None:
        if self._redis is None or not self.redis_healthy:
            return
        worker_id = self._env.worker_id
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.delete(heartbeat_key(worker_id))
                pipe.zrem(LIVE_WORKERS_KEY, worker_id)
                await pipe.execute()
        except (RedisError, OSError) as exc:
            logger.info("heartbeat left to expire: %s", exc)

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SAMPLE_SECONDS
            await asyncio.sleep(LAG_SAMPLE_SECONDS)
            self._lag = max(self._lag, loop.time() - due)


def _rss() -> int:
    """Resident bytes of this process (proc(5), statm: the second number counts pages)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
