"""One worker's parts, from its environment: built, started and stopped together."""

import asyncio
import os
import signal
from dataclasses import asdict
from typing import Any

from wsd.worker.broker.circuit_breaker import BreakerPolicy, CircuitBreaker
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.broker.message_broker import MessageBroker, Mode, Receive
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Spool
from wsd.worker.channels.options import ChannelRules
from wsd.worker.channels.presence import InMemoryPresence, Presence, RedisPresence
from wsd.worker.channels.receipts import Receipts
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.heartbeat import WorkerState
from wsd.worker.contract.redis_keys import worker_channel
from wsd.worker.delivery.outbox import Outlet
from wsd.worker.heartbeat import HeartbeatTask
from wsd.worker.logs import get_logger
from wsd.worker.manager.connection import ConnectionLimits
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager, Parts
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.security.authentication import load_hook
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.redis_store import RedisSessionStore
from wsd.worker.sessions.session_store import SessionStore
from wsd.worker.sessions.user_connections import UserConnections
from wsd.worker.wire.redaction import PayloadFilter

logger = get_logger(__name__)


class Worker:
    """The manager of this process, and what works for it in the background.

    Distributed when `env` names a Redis and does not forbid it, else in memory. Which of them messages take at a moment
    is the broker's to decide.
    """

    def __init__(self, env: WorkerEnv) -> None:
        """Nothing is connected yet. Raises ValueError when a Redis URL is malformed."""
        self.env = env
        self.pid = os.getpid()
        self._clients: list[Redis] = []
        self.distributed = env.distributed and bool(env.redis_url)
        self._commands = self._open(env.redis_url, env.redis_timeout) if self.distributed else None
        user_connections = None
        if self._commands is not None and env.max_connections_per_user:
            user_connections = UserConnections(self._commands, env.worker_id, lambda: self.heartbeat.live_workers)
        self.manager = DistributedWebSocketManager(
            env.worker_id,
            env.node_id,
            Parts(
                make_broker=self._broker,
                sessions=self._sessions(),
                presence=self._presence(),
                payload_filter=PayloadFilter(env.sensitive_fields.split(",")),
                rules=ChannelRules(env.channels),
                receipts=Receipts(self._commands),
                traces=EndedConnections(self._commands, env.trace_ttl),
                authorize=load_hook("security.authorize", env.authorize) if env.authorize else None,
                user_connections=user_connections,
                call_timeout=env.redis_timeout,
                outlet=Outlet(
                    max_buffer_bytes=env.max_buffer_bytes,
                    max_total_bytes=env.max_total_buffer_bytes,
                ),
                limits=ConnectionLimits(
                    per_user=env.max_connections_per_user,
                    messages_per_second=env.messages_per_second,
                    message_burst=env.message_burst,
                    bytes_per_second=env.bytes_per_second,
                    byte_burst=env.byte_burst,
                    idle_timeout=env.idle_timeout,
                ),
            ),
        )
        beat_redis = self._open(env.redis_url, env.heartbeat_interval) if self.distributed else None
        self.heartbeat = HeartbeatTask(env, self.manager, beat_redis)
        self._tasks: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None  # that it has been started on
        self._stopped = False

    def _open(self, url: str, timeout: float | None) -> Redis:
        client = open_redis(url, connect_timeout=self.env.redis_connect_timeout, timeout=timeout)
        self._clients.append(client)
        return client

    def _sessions(self) -> SessionStore:
        if self._commands is None:
            return InMemorySessionStore(self.env.session_ttl)
        return RedisSessionStore(
            self._commands,
            self.env.worker_id,
            self.env.session_ttl,
            judges=lambda: self.heartbeat.judges(),  # noqa: PLW0108 - the heartbeat is made later
        )

    def _presence(self) -> Presence:
        if self._commands is None:
            return InMemoryPresence()
        return RedisPresence(self._commands, self.env.worker_id)

    def _broker(self, receive: Receive) -> MessageBroker:
        env = self.env
        if not self.distributed:
            return InMemoryMessageBroker(receive)
        return RedisMessageBroker(
            receive,
            primary=self._pubsub("Redis", env.redis_url),
            stand_in=self._pubsub("the stand-in", env.fallback_url, stores=False) if env.fallback_url else None,
            breaker=CircuitBreaker(BreakerPolicy()),
            spool=Spool(env.spool_messages, env.spool_bytes),
            expected_workers=lambda: len(self.heartbeat.live_workers),
        )

    def _pubsub(self, name: str, url: str, *, stores: bool = True) -> RedisPubSub:
        return RedisPubSub(
            name,
            publisher=self._open(url, None),  # whoever asks has a timeout of its own; one for each answer costs 4 us
            listener=self._open(url, None),
            own_channel=worker_channel(self.env.worker_id),
            timeout=self.env.redis_timeout / 2,  # a message may try Redis, then the stand-in
            stores=stores,
        )

    async def start(self, *, ready: bool = True) -> None:
        """Return once it hears, or has seen that it stands alone: who connects then misses nothing.

        May be called again. `ready`: whether it may get traffic then; otherwise once `ready` is called.
        """
        if self.heartbeat.begun.is_set():
            return
        if self._tasks is None:
            self.loop = asyncio.get_running_loop()
            self._tasks = self.loop.create_task(self._run(), name="worker")
            self._tasks.add_done_callback(self._ended)
        begun = asyncio.create_task(self.heartbeat.begun.wait())
        await asyncio.wait([begun, self._tasks], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if ready:
            self.ready()

    def ready(self) -> None:
        self.heartbeat.state = WorkerState.READY

    async def stop(self) -> None:
        """End the background work for good: whoever asks for this process's worker afterwards gets another one."""
        self._stopped = True
        if self._tasks is not None:
            self._tasks.cancel()
            await asyncio.wait([self._tasks])
        for client in self._clients:
            await client.aclose()

    @property
    def over(self) -> bool:
        """Whether it cannot serve any more: stopped, left behind on a loop that is closed, or of the parent process."""
        return self._stopped or self.pid != os.getpid() or (self.loop is not None and self.loop.is_closed())

    @property
    def running(self) -> bool:
        """Whether the background work has begun and has not ended."""
        return self._tasks is not None and not self._tasks.done()

    def drain(self) -> None:
        """From now on /health answers 503: this worker gets no new connections."""
        self.heartbeat.state = WorkerState.DRAINING

    def health(self) -> tuple[int, dict[str, Any]]:
        """200 while the worker can serve, healthy or degraded.

        503 while it starts or drains, when it is deaf, and when its background work has ended: then nothing crosses
        workers, and only a new process helps.
        """
        beat = self.heartbeat.record()
        broker = self.manager.broker.health
        broker_healthy = broker.mode in (Mode.MEMORY, Mode.DISTRIBUTED)
        store_healthy = self.manager.keeper.healthy and (self.heartbeat.redis_healthy or not self.distributed)
        totals = self.heartbeat.totals
        serves = self.running and beat.state is WorkerState.READY and not broker.deaf
        status: str = "healthy" if broker_healthy and store_healthy else "degraded"
        if not self.running:
            status = "stopped"
        elif beat.state is not WorkerState.READY:
            status = beat.state
        elif broker.deaf:
            status = "deaf"
        body: dict[str, Any] = {
            "status": status,
            "websocket": {
                "worker_id": beat.worker_id,
                "session_store_healthy": store_healthy,
                "message_broker_healthy": broker_healthy,
                "local_connections": beat.connections,
                "total_sessions": totals.sessions,
                "total_workers": totals.workers,
                "mode": broker.mode,
                "breaker": broker.breaker,
                "loop_lag": beat.loop_lag,
            },
            "heartbeat": asdict(beat),
        }
        if not (broker_healthy and store_healthy):
            reason = broker.reason or "sessions cannot be written"
            body["reason"] = f"Redis is not reachable, {CONSEQUENCES.get(broker.mode, 'messages cross')}: {reason}"
        return (200 if serves else 503), body

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.manager.run(), name="manager")
            await self.manager.settle()
            tasks.create_task(self.heartbeat.run(), name="heartbeat")

    def _ended(self, tasks: asyncio.Task[None]) -> None:
        """A worker whose background work died would look alive and do nothing: it ends instead."""
        if not tasks.cancelled() and (exc := tasks.exception()) is not None:
            logger.critical("background work failed, the worker stops", exc_info=exc)
            os.kill(os.getpid(), signal.SIGTERM)


CONSEQUENCES = {
    Mode.FALLBACK: "messages stay on this node",
    Mode.LOCAL: "messages stay on this worker",
}


_workers: list[Worker] = []
"""One in a process that serves. Tests have one for each event loop that they serve on."""


def live_workers() -> list[Worker]:
    """This process's workers that have not been stopped, and whose event loop has not been closed; newest last.

    A fork has none of those of its parent.
    """
    global _workers  # noqa: PLW0603 - a process is one worker
    if any(worker.over for worker in _workers):
        _workers = [worker for worker in _workers if not worker.over]
    return _workers


def current_worker(env: WorkerEnv | None = None) -> Worker:
    """The worker to talk to: that of the running event loop, or else the newest; made when first asked for.

    `env`: what it is made of, by default the environment. Raises ValueError when a value of the environment is wrong.
    """
    workers = live_workers()
    return _of_this_loop(workers) or (workers[-1] if workers else _make(env))


def serving_worker(env: WorkerEnv | None = None) -> Worker:
    """The worker whose connections live on the running event loop; another one where that of the process is another
    loop's. Otherwise as `current_worker`."""
    return _of_this_loop(live_workers()) or _make(env)


def _of_this_loop(workers: list[Worker]) -> Worker | None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    for worker in reversed(workers):
        if worker.loop is None or worker.loop is running:
            return worker
    return None


def _make(env: WorkerEnv | None) -> Worker:
    worker = Worker(env or WorkerEnv.from_env(os.environ))
    _workers.append(worker)
    return worker
