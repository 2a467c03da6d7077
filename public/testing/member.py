"""One worker of a test cluster: a real server on a port of loopback, on an event loop that it shares with others."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.process_workers import add_worker
from wsd.worker.server.http_protocol import http_protocol
from wsd.worker.server.websocket_protocol import fanout_protocol
from wsd.worker.websocket_middleware import WebSocketMiddleware
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.worker import Worker


class ServedWorker:
    """A worker that serves an application on a port of loopback."""

    def __init__(
        self, app: ASGIApp, env: WorkerEnv, memory: SharedMemory, state: dict[str, Any], port: int = 0
    ) -> None:
        """Bind a port, a free one by default. `state`: what the lifespan of the application has yielded.

        Raises ValueError for settings that contradict each other.
        """
        self.worker = Worker(env, memory)
        add_worker(self.worker)
        self._socket = socket.socket()
        if os.name == "posix":  # on Windows the option lets two sockets listen on one port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            WebSocketMiddleware(app, env, worker=self.worker),
            http=http_protocol(env.handshake_timeout, env.max_head_bytes),
            ws=fanout_protocol(self.worker.parts.outlet),
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_max_size=env.max_message_bytes,
            ws_ping_interval=env.ping_interval,
            ws_ping_timeout=env.ping_timeout,
            ws_per_message_deflate=env.compression,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config, state)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on."""
        await self.worker.start()
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        await self._server.listening.wait()

    async def stop(self) -> None:
        """Close the connections as a deploy does: their clients are told to come back (1012)."""
        for outbox in list(self.worker.parts.messages.fanout):
            outbox.close(CloseCode.RESTART, "")
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        await self.worker.stop()
        self._socket.close()


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process alone, and gives its requests the state of another lifespan."""

    def __init__(self, config: uvicorn.Config, state: dict[str, Any]) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.lifespan.state = self._state
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
