"""One worker process: its parts, started and stopped together."""

import asyncio
import os
import signal

from wsd.worker.assembly import build_backend, build_parts
from wsd.worker.backend.roster import Roster
from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.heartbeat import WorkerState
from wsd.worker.contract.redis_address import Place, shown
from wsd.worker.health import WorkerHealth, judge
from wsd.worker.heartbeat import HeartbeatTask, Load
from wsd.worker.logs import get_logger
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.api_keys import ApiKeys

logger = get_logger(__name__)


class Worker:
    """The manager of a process, the parts that it consists of, and their background work.

    The worker is distributed when `env` names a Redis and does not forbid it. Otherwise it keeps everything in memory.
    """

    def __init__(self, env: WorkerEnv, memory: SharedMemory | None = None) -> None:
        """Build the parts. Nothing is connected yet.

        `memory`: shared with other workers of this process, in place of a Redis.

        Raises ValueError for a malformed Redis URL, for API keys that cannot be read, and for an authorization that
        cannot be loaded.
        """
        self.env = env
        self.api_keys = ApiKeys(env.api_key, env.api_keys)
        self.pid = os.getpid()
        self.loop: asyncio.AbstractEventLoop | None = None  # the one that the worker was started on
        roster = Roster(env.heartbeat_interval, grace=env.heartbeat_ttl)
        self.memory = memory
        self.backend = memory.enter(env.worker_id, roster) if memory is not None else build_backend(env, roster)
        self.parts = build_parts(env, self.backend)
        self.manager = DistributedWebSocketManager(self.parts)
        self.heartbeat = HeartbeatTask(
            env,
            self.backend.heartbeat_redis,
            roster,
            self.backend.broker,
            self.parts.dispatcher,
            load=self._load,
            worker_came=self.parts.worker_came,
        )
        self._tasks: asyncio.Task[None] | None = None
        self._stopped = False

    def _load(self) -> Load:
        fanout = self.parts.messages.fanout
        return Load(len(fanout), self.parts.counts.messages_in, fanout.sent)

    @property
    def distributed(self) -> bool:
        """Whether the worker has a Redis, reachable or not."""
        return self.backend.distributed

    async def start(self, *, ready: bool = True) -> None:
        """Start the background work.

        Return once the worker receives the messages of the others, or knows that it cannot at present: clients that
        connect after that miss nothing. Calling this again changes nothing.

        `ready`: whether the worker may get traffic then. Otherwise it may once `ready` is called.
        """
        if self.heartbeat.begun.is_set():
            return
        if self._tasks is None:
            self.loop = asyncio.get_running_loop()
            self._tasks = self.loop.create_task(self._run(), name="worker")
            self._tasks.add_done_callback(self._ended)
        begun = asyncio.ensure_future(self.heartbeat.begun.wait())
        await asyncio.wait([begun, self._tasks], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if ready:
            self.ready()

    def ready(self) -> None:
        """Let /health answer 200 from now on."""
        self.heartbeat.state = WorkerState.READY

    def drain(self) -> None:
        """Let /health answer 503 from now on, so that this worker gets no new connections."""
        self.heartbeat.state = WorkerState.DRAINING

    async def stop(self) -> None:
        """End the background work for good. `current_worker` makes another worker afterwards."""
        self._stopped = True
        if self._tasks is not None:
            self._tasks.cancel()
            await asyncio.wait([self._tasks])
        if self.memory is not None:
            self.memory.leave(self.env.worker_id)
        await self.backend.aclose()

    @property
    def over(self) -> bool:
        """Whether the worker can never serve again.

        That is so when it was stopped, when its event loop is closed, and in a fork of its process.
        """
        return self._stopped or self.pid != os.getpid() or (self.loop is not None and self.loop.is_closed())

    @property
    def running(self) -> bool:
        """Whether the background work has begun and has not ended."""
        return self._tasks is not None and not self._tasks.done()

    async def count_workers(self) -> int:
        """Return how many workers there are, also those that have just started. Asks Redis, if there is one."""
        await self.heartbeat.beat_now()
        return self.heartbeat.totals.workers

    def health(self) -> WorkerHealth:
        """Return what /health says. The worker serves while it is healthy or degraded."""
        totals = self.heartbeat.totals
        return judge(
            self.heartbeat.record(),
            self.backend.broker.health,
            running=self.running,
            store_healthy=self.parts.sessions.keeper.healthy and (self.heartbeat.redis_healthy or not self.distributed),
            sessions=totals.sessions,
            workers=totals.workers,
            primary=self.backend.sentinels.current if self.backend.sentinels is not None else None,
        )

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.parts.run(), name="manager")
            if (sentinels := self.backend.sentinels) is not None:
                sentinels.on_switch = self._primary_switched
                sentinels.on_doubt = self._doubt_primary
                tasks.create_task(run_repeatedly(sentinels.follow, "news of the Sentinels"), name="sentinels")
            await self.parts.wait_until_ready()
            tasks.create_task(self.heartbeat.run(), name="heartbeat")

    def _primary_switched(self, old: Place, new: Place) -> None:
        """Treat the old primary as away, whatever it still answers. Its connections are dropped already."""
        logger.warning("the Sentinels name another primary: %s in place of %s", shown(new), shown(old), extra=EVENT)
        self.backend.broker.server_replaced(f"the Sentinels name another primary, {shown(new)}")

    def _doubt_primary(self, reason: str) -> None:
        """Treat the primary as away until the Sentinels have named one anew: it may be another one by now."""
        logger.warning("asking the Sentinels for the primary again: %s", reason)
        self.backend.broker.server_replaced(reason)

    def _ended(self, tasks: asyncio.Task[None]) -> None:
        """End the process if the background work has failed. Otherwise it would look alive and do nothing."""
        if not tasks.cancelled() and (exc := tasks.exception()) is not None:
            logger.critical("background work failed, the worker stops", exc_info=exc)
            os.kill(os.getpid(), signal.SIGTERM)
