"""The heartbeat of a worker: its record, written to Redis every second, and the lag of the event loop."""

import asyncio
import mmap
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from wsd.worker.backend.roster import Roster
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.background.waiting import wait_at_most
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis
from wsd.worker.redis_heartbeat import RedisHeartbeat

logger = get_logger(__name__)

LAG_SAMPLE_SECONDS = 0.25
"""How often the lag of the event loop is measured."""

GATHER_SECONDS = 0.05
"""How long a beat waits after a worker has come, so that it finds all workers that come together."""


@dataclass(frozen=True)
class ClusterTotals:
    """The numbers of workers and sessions in the whole cluster."""

    workers: int
    sessions: int


@dataclass(frozen=True)
class Load:
    """The load of a worker. Counters start at 0."""

    connections: int
    messages_in: int
    messages_out: int


class HeartbeatListener(Protocol):
    """Receives what a heartbeat finds. Methods must not block."""

    def workers_seen(self, live: frozenset[str]) -> None:
        """Called after each beat that Redis answered, with the ids of the workers that live."""

    def redis_restored(self) -> None:
        """Called when Redis did not know this worker, so that it may have lost other things, too."""


class HeartbeatTask:
    """Sends a beat every `heartbeat_interval` seconds until it is cancelled, then deletes the record.

    Without Redis it only measures. /health serves the record all the same.
    """

    def __init__(
        self,
        env: WorkerEnv,
        redis: Redis | None,
        roster: Roster,
        broker: MessageBroker,
        listener: HeartbeatListener,
        *,
        load: Callable[[], Load],
        worker_came: asyncio.Event,
    ) -> None:
        """`redis`: None without Redis. `roster`: learns which workers live. `load` returns what the worker carries.
        `worker_came`: set by others when a worker announces itself, which brings the next beat forward."""
        self.state = WorkerState.STARTING
        self.redis_healthy = False
        self.begun = asyncio.Event()  # the first beat was sent, or could not be sent
        self._env = env
        self._in_redis: RedisHeartbeat | None = None
        if redis is not None:
            self._in_redis = RedisHeartbeat(redis, env.worker_id, ttl=env.heartbeat_ttl, timeout=env.heartbeat_interval)
        self._roster = roster
        self._broker = broker
        self._listener = listener
        self._load = load
        self._worker_came = worker_came
        self._started = time.monotonic()
        self._count = 0
        self._lag = 0.0
        self._totals: ClusterTotals | None = None

    @property
    def live_workers(self) -> frozenset[str]:
        """The ids of the workers that live, as far as known."""
        return self._roster.live

    @property
    def totals(self) -> ClusterTotals:
        """The totals of the cluster. While Redis is away: those of this worker."""
        if self._totals is not None and self.redis_healthy:
            return self._totals
        workers = len(self.live_workers) if self._in_redis is None else 1
        return ClusterTotals(max(1, workers), self._load().connections)

    def record(self) -> Heartbeat:
        """Return the record as it is now."""
        load, health = self._load(), self._broker.health
        return Heartbeat(
            worker_id=self._env.worker_id,
            node_id=self._env.node_id,
            slot=self._env.slot,
            pid=os.getpid(),
            beat=self._count,
            uptime=time.monotonic() - self._started,
            state=self.state,
            connections=load.connections,
            messages_in=load.messages_in,
            messages_out=load.messages_out,
            loop_lag=self._lag,
            rss=_rss(),
            redis=self.redis_healthy and self._broker.healthy,
            deaf=health.deaf,
            refused=self._broker.statistics.refused,
        )

    async def run(self) -> None:
        """Send beats and measure until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_repeatedly(self._measure_lag, "heartbeat: loop lag"), name="loop-lag")
            tasks.create_task(run_repeatedly(self._send_beats, "heartbeat"), name="heartbeat")

    async def _send_beats(self) -> None:
        try:
            while True:
                self._count += 1
                await self.beat_now()
                self.begun.set()
                self._lag = 0.0
                if await wait_at_most(self._worker_came, self._env.heartbeat_interval):
                    await asyncio.sleep(GATHER_SECONDS)
                self._worker_came.clear()
        finally:
            await self._delete_record()

    async def beat_now(self) -> None:
        """Write the record, and find out which workers live.

        A Redis that hangs delays this by `heartbeat_interval` at most. If the count stood still for longer, the
        supervisor would think that the background work of this worker has ended.
        """
        if self._in_redis is None:
            return
        # A reader of this record in Redis knows that it arrived there. It only says whether the broker works, too.
        record = replace(self.record(), redis=self._broker.healthy)
        try:
            beat = await self._in_redis.beat(record)
        except RedisUnavailableError as exc:
            if self.redis_healthy:
                logger.warning("heartbeat failed: %s", exc)
            self.redis_healthy = False
            if exc.unusable:
                self._broker.suspect(str(exc))  # the broker may publish nothing for long, and not notice
        else:
            self.redis_healthy = True
            self._roster.seen(beat.workers, time.monotonic(), was_known=beat.was_known)
            self._totals = ClusterTotals(len(self.live_workers), beat.sessions)
            self._listener.workers_seen(self.live_workers)
            if not beat.was_known:
                self._listener.redis_restored()

    async def _delete_record(self) -> None:
        """Let the others know at once that this worker has ended. If that fails, its record expires."""
        if self._in_redis is None or not self.redis_healthy:
            return
        try:
            await self._in_redis.delete()
        except RedisUnavailableError as exc:
            logger.info("the heartbeat is left to expire: %s", exc)

    async def _measure_lag(self) -> None:
        """Note how much later than planned the event loop wakes a sleeper."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SAMPLE_SECONDS
            await asyncio.sleep(LAG_SAMPLE_SECONDS)
            self._lag = max(self._lag, loop.time() - due)


def _rss() -> int:
    """Return the resident bytes of this process."""
    if sys.platform == "linux":  # the second number of statm counts pages, see proc(5)
        rss = int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    else:
        import psutil  # noqa: PLC0415 - workers on Linux do without it

        rss = psutil.Process().memory_info().rss
    return rss
