"""A uvicorn server that drains when it stops: no handshake is lost, and clients do not all reconnect in one second."""

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from wsd.worker.contract.events import EVENT
from wsd.worker.contract.lifecycle import ACCEPT_GRACE_SECONDS
from wsd.worker.delivery.close_delays import close_delays
from wsd.worker.logs import get_logger, yield_to_application
from wsd.worker.server.forks import release_in_children
from wsd.worker.server.websocket_protocol import FanoutProtocol

WebSocket = FanoutProtocol | WebSocketsSansIOProtocol
WEBSOCKETS = (FanoutProtocol, WebSocketsSansIOProtocol)

logger = get_logger(__name__)

POLL_SECONDS = 0.1
"""How often a drain looks whether its connections have ended."""


class WorkerServer(uvicorn.Server):
    """Serves sockets that are bound already. SIGTERM and SIGINT begin a drain, a second signal ends it.

    A drain closes WebSockets over `drain_seconds`. If it `waits`, clients may end by themselves for that time, and
    those that are left are then closed at once.

    `paths` are the paths of the server's unix socket: the one it was bound to, and the one that nginx knows.
    `on_drain` is called once, when the drain begins.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_seconds: float,
        waits: bool = False,
        on_drain: Callable[[], None],
        paths: Sequence[Path] = (),
    ) -> None:
        super().__init__(config)
        self._drain_seconds = drain_seconds
        self._waits = waits
        self._on_drain = on_drain
        self._paths = paths
        self._inode = paths[0].stat().st_ino if paths else None
        self._draining = asyncio.Event()
        self._cut_short = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn raises the signal again after a clean end. A worker must end with exit code 0.
        loop = asyncio.get_running_loop()
        handlers = {}
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.begin_drain)
            handlers[signum] = signal.getsignal(signum)
        release_in_children(handlers, self._sockets)
        yield

    def _sockets(self) -> Iterator[int]:
        """Yield the descriptors of the listeners and of all connections."""
        for server in getattr(self, "servers", ()):
            yield from (listener.fileno() for listener in server.sockets)
        for connection in self.server_state.connections:
            sock = connection.transport.get_extra_info("socket") if connection.transport is not None else None
            if sock is not None:
                yield sock.fileno()

    def begin_drain(self) -> None:
        """Begin the drain. A second call ends it."""
        if self._draining.is_set():
            self._cut_short.set()
            return
        self.should_exit = True
        self._draining.set()
        self._on_drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        yield_to_application()  # it may have configured its logging in its own startup

    async def main_loop(self) -> None:
        """Wait for the drain. uvicorn wakes up ten times a second; the Date header needs a clock only once a second."""
        while not self.should_exit:
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._draining.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Unlink the socket, answer open handshakes, close WebSockets one by one, then stop as uvicorn does.

        HTTP requests and tasks of the application may go on until the end of the drain.
        """
        ends_at = asyncio.get_running_loop().time() + self._drain_seconds
        self._unlink_own_socket()
        # When the listener closes, a connection in its backlog is reset, and one that is accepted but not read yet is
        # closed without an answer (uvicorn 2757). Both get this moment.
        await asyncio.sleep(ACCEPT_GRACE_SECONDS)
        for server in self.servers:
            server.close()
        for connection in self.server_state.connections.difference(self._websockets()):
            connection.shutdown()  # closes after the answer to the current request, if there is one
        await self._close_websockets()
        await self._until(lambda: not (self.server_state.connections or self.server_state.tasks), ends_at)
        await super().shutdown(sockets)

    def _unlink_own_socket(self) -> None:
        """Send new handshakes to other workers. The inode tells whether the path belongs to another process already."""
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == self._inode:
                    path.unlink()

    async def _close_websockets(self) -> None:
        connections = self._websockets()
        if not connections:
            return
        logger.info("draining %d connections", len(connections), extra=EVENT)
        loop = asyncio.get_running_loop()
        delays = close_delays(len(connections), self._drain_seconds, random.Random())
        if self._waits:
            await self._until(lambda: not self._websockets(), loop.time() + self._drain_seconds)
            connections = self._websockets()
            delays = [0.0] * len(connections)
        timers = [
            loop.call_later(delay, self._close, connection)
            for delay, connection in zip(delays, connections, strict=True)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(delays, default=0.0)):
                await self._cut_short.wait()
        for timer in timers:
            timer.cancel()

    def _websockets(self) -> list[WebSocket]:
        return [c for c in self.server_state.connections if isinstance(c, WEBSOCKETS)]

    async def _until(self, condition: Callable[[], bool], ends_at: float) -> None:
        """Wait for a condition, until `ends_at` (the event loop's time), or until the drain is cut short."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                while not condition() and not self._cut_short.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._cut_short.wait()

    def _close(self, connection: WebSocket) -> None:
        if connection in self.server_state.connections:
            connection.shutdown()


def bind_unix(path: Path) -> socket.socket:
    """Bind a unix socket that only this user can connect to.

    Raises OSError.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def bind_shared(host: str, port: int) -> socket.socket:
    """Bind a TCP port together with the other workers (SO_REUSEPORT, socket(7)).

    Raises OSError.
    """
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.bind(address)
    return listener
