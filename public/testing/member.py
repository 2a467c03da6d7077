"""One worker of a test cluster: a real server on a port of loopback."""

import asyncio
import os
import socket
from typing import Any

from starlette.types import ASGIApp

from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.shared_loop.served_worker import ServedWorker


class Member:
    """A worker that listens on a port of loopback."""

    def __init__(
        self, app: ASGIApp, env: WorkerEnv, memory: SharedMemory, state: dict[str, Any], port: int = 0
    ) -> None:
        """Bind a port, a free one by default. `state`: what the lifespan of the application has yielded.

        Raises ValueError for settings that contradict each other.
        """
        self._served = ServedWorker(app, env, memory, state)
        self._socket = socket.socket()
        if os.name == "posix":  # on Windows the option lets two sockets listen on one port
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self.worker = self._served.worker
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Serve from now on."""
        await self._served.start()
        self._listener = await asyncio.get_running_loop().create_server(self._served.protocol, sock=self._socket)

    async def stop(self) -> None:
        """Close the connections as a deploy does: their clients are told to come back (1012)."""
        if self._listener is not None:
            self._listener.close()
        await self._served.stop()
        self._socket.close()
