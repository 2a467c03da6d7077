"""One of several workers on an event loop: it serves an application to the connections that it is given."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.process_workers import add_worker, live_workers
from wsd.worker.server.http_protocol import HttpProtocol, http_protocol
from wsd.worker.server.websocket_protocol import fanout_protocol
from wsd.worker.websocket_middleware import WebSocketMiddleware
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.worker import Worker

LAST_SECONDS = 1
"""How long requests that are under way may still take when the worker stops."""


class ServedWorker:
    """A worker that serves an application. Whoever listens hands each new connection to `protocol()`."""

    def __init__(
        self, app: ASGIApp, env: WorkerEnv, memory: SharedMemory, state: dict[str, Any], *, worker: Worker | None = None
    ) -> None:
        """`state`: what the lifespan of the application has yielded. `worker`: one that exists already.

        Raises ValueError for settings that contradict each other.
        """
        self.worker = worker or Worker(env, memory)
        if self.worker not in live_workers():
            add_worker(self.worker)
        self._config = uvicorn.Config(
            WebSocketMiddleware(app, env, worker=self.worker),
            http=http_protocol(env.handshake_timeout, env.max_head_bytes),
            ws=fanout_protocol(
                self.worker.parts.outlet,
                announces=bool(env.app or env.authenticate or env.authorize),
            )
            if env.protocol == "wsd"
            else "websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws_max_size=env.max_message_bytes,
            ws_ping_interval=env.ping_interval,
            ws_ping_timeout=env.ping_timeout,
            ws_per_message_deflate=env.compression,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
        self._server = _Server(self._config, state)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Be ready for connections from now on."""
        await self.worker.start()
        self._serving = asyncio.create_task(self._server.serve([]))
        await self._server.has_started.wait()

    @property
    def load(self) -> tuple[int, int]:
        """How many WebSockets the worker has, and how many connections altogether."""
        connections = self._server.server_state.connections
        return sum(not isinstance(each, HttpProtocol) for each in connections), len(connections)

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._server.server_state, app_state=self._server.lifespan.state
        )

    async def close(self) -> None:
        """Close the connections as a deploy does: their clients are told to come back (1012)."""
        for outbox in list(self.worker.parts.messages.fanout):
            outbox.close(CloseCode.RESTART, "")
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving

    async def stop(self) -> None:
        """Close the connections, and end the worker."""
        await self.close()
        await self.worker.stop()


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process alone, and gives its requests the state of another lifespan."""

    def __init__(self, config: uvicorn.Config, state: dict[str, Any]) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state = self._state
        await super().startup(sockets)
        self.has_started.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
