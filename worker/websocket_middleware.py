"""The cluster around an application: the manager in its state, /health, headers; its parts live with the lifespan."""

import asyncio
import json
import logging
import os
import signal
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsd.worker.contract import WorkerEnv, WorkerState, worker_channel
from wsd.worker.heartbeat import HeartbeatTask
from wsd.worker.link import Redis, open_redis
from wsd.worker.message_broker import InMemoryMessageBroker, MessageBroker
from wsd.worker.message_broker import Receive as BrokerReceive
from wsd.worker.payload import PayloadFilter
from wsd.worker.redis_broker import RedisMessageBroker
from wsd.worker.redis_session_store import RedisSessionStore
from wsd.worker.session_store import InMemorySessionStore, SessionStore
from wsd.worker.websocket_manager import DistributedWebSocketManager

logger = logging.getLogger(__name__)

HEALTH_PATH = "/health"

STATE_KEY = "websocket_manager"

HEADERS = (
    "X-WebSocket-Local-Connections",
    "X-WebSocket-Worker-ID",
    "X-WebSocket-Total-Sessions",
    "X-WebSocket-Total-Workers",
)
"""Added to HTTP responses."""


class WebSocketMiddleware:
    """Pure ASGI middleware, and the parts list of a worker: wsd wraps the application with it, or an application adds
    it itself (`app.add_middleware(WebSocketMiddleware)`) and runs under any server that sends lifespan events.

    The manager is `scope["state"]["websocket_manager"]` (Starlette: `request.state.websocket_manager`).
    """

    def __init__(self, app: ASGIApp, env: WorkerEnv | None = None, headers: Collection[str] = HEADERS) -> None:
        """`env`: by default from the process's environment; `headers`: which of HEADERS to add to responses.

        Raises ValueError when a value of the environment is wrong, REDIS_URL among them.
        """
        env = env or WorkerEnv.from_env(os.environ)
        self.app = app
        self.env = env
        self._headers = frozenset(headers)
        self.redis_clients: list[Redis] = []
        self._commands = self._redis(timeout=env.redis_timeout) if self._distributed else None
        self.manager = DistributedWebSocketManager(
            env.worker_id,
            env.node_id,
            make_broker=self._broker,
            sessions=self._store(),
            payload_filter=PayloadFilter(env.sensitive_fields.split(",")),
        )
        beat_redis = self._redis(timeout=env.heartbeat_interval) if self._distributed else None
        self.heartbeat = HeartbeatTask(env, self.manager, beat_redis)
        self.startup_failure: str | None = None
        self._parts: asyncio.Task[None] | None = None

    @property
    def _distributed(self) -> bool:
        return self.env.distributed and bool(self.env.redis_url)

    def _store(self) -> SessionStore:
        if self._commands is None:
            return InMemorySessionStore(self.env.session_ttl)
        return RedisSessionStore(self._commands, self.env.worker_id, self.env.session_ttl)

    def _broker(self, receive: BrokerReceive) -> MessageBroker:
        if self._commands is None:
            return InMemoryMessageBroker(receive)
        return RedisMessageBroker(
            receive,
            publisher=self._commands,
            listener=self._redis(timeout=None),
            own_channel=worker_channel(self.env.worker_id),
        )

    def _redis(self, timeout: float | None) -> Redis:
        connect_timeout = self.env.redis_connect_timeout
        client = open_redis(self.env.redis_url, connect_timeout=connect_timeout, timeout=timeout)
        self.redis_clients.append(client)
        return client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("state", {}).get(STATE_KEY, self.manager) is not self.manager:
            # An application that has the middleware itself, under `wsd start`: the outer one does it all.
            await self.app(scope, receive, send)
            return
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        scope.setdefault("state", {})[STATE_KEY] = self.manager
        if scope["type"] == "http":
            app = self.health() if scope["path"] == HEALTH_PATH else self.app
            await app(scope, receive, self._with_headers(send) if self._headers else send)
        else:
            await self.app(scope, receive, send)

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                totals = self.heartbeat.totals  # of the last heartbeat: no request waits for Redis
                values: dict[str, object] = {
                    "X-WebSocket-Local-Connections": self.manager.connection_count,
                    "X-WebSocket-Worker-ID": self.env.worker_id,
                    "X-WebSocket-Total-Sessions": totals.sessions,
                    "X-WebSocket-Total-Workers": totals.workers,
                }
                added = [(k.lower().encode(), str(v).encode()) for k, v in values.items() if k in self._headers]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        return send_with_headers

    def drain(self) -> None:
        """From now on /health answers 503: this worker gets no new connections."""
        self.heartbeat.state = WorkerState.DRAINING

    def health(self) -> Response:
        """200 while the worker can serve, healthy or degraded; 503 while it starts or drains."""
        beat = self.heartbeat.record()
        broker_healthy = self.manager.broker.healthy
        store_healthy = self.manager.keeper.healthy and (self.heartbeat.redis_healthy or self._commands is None)
        degraded = not (broker_healthy and store_healthy)
        status = "degraded" if degraded else "healthy"
        totals = self.heartbeat.totals
        body: dict[str, Any] = {
            "status": status if beat.state is WorkerState.READY else beat.state,
            "websocket": {
                "worker_id": beat.worker_id,
                "session_store_healthy": store_healthy,
                "message_broker_healthy": broker_healthy,
                "local_connections": beat.connections,
                "total_sessions": totals.sessions,
                "total_workers": totals.workers,
            },
            "heartbeat": asdict(beat),
        }
        if degraded:
            body["reason"] = "Redis is not reachable: messages stay on this worker"
        code = 200 if beat.state is WorkerState.READY else 503
        return Response(json.dumps(body), code, media_type="application/json")

    async def _run_parts(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.manager.run(), name="manager")
            await self.manager.broker.settle()
            tasks.create_task(self.heartbeat.run(), name="heartbeat")

    def _start(self) -> None:
        self._parts = asyncio.create_task(self._run_parts(), name="parts")
        self._parts.add_done_callback(self._parts_ended)

    async def _until_begun(self) -> None:
        """Who connects to a ready worker must not miss a message: wait until it hears, or stands alone."""
        assert self._parts is not None
        begun = asyncio.create_task(self.heartbeat.begun.wait())
        await asyncio.wait([begun, self._parts], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()

    def _parts_ended(self, parts: asyncio.Task[None]) -> None:
        """A worker whose background work died would look alive and do nothing: it ends instead."""
        if not parts.cancelled() and (exc := parts.exception()) is not None:
            logger.critical("background work failed, the worker stops", exc_info=exc)
            os.kill(os.getpid(), signal.SIGTERM)

    async def _stop(self) -> None:
        if self._parts is not None:
            self._parts.cancel()
            await asyncio.wait([self._parts])
        for client in self.redis_clients:
            await client.aclose()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start before the application's startup and stop after its shutdown, if it has any."""
        scope.setdefault("state", {})[STATE_KEY] = self.manager
        started = False

        async def send_between(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.complete":
                started = True
                await self._until_begun()
                self.heartbeat.state = WorkerState.READY
            else:
                if message["type"] == "lifespan.startup.failed":
                    self.startup_failure = message.get("message", "").strip() or "no reason given"
                await self._stop()
            await send(message)

        self._start()
        try:
            await self.app(scope, receive, send_between)
        except Exception:
            if started:
                raise
            # As in uvicorn's lifespan "auto": an application that raises here does not know lifespan events.
            await send_between({"type": "lifespan.startup.complete"})
            await receive()
            await send_between({"type": "lifespan.shutdown.complete"})
