"""A server on a port of loopback, which a test commands from a coroutine or from any thread."""

import asyncio
import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from tests.support.ports import unused_port

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="LoopServer")

PATIENCE_SECONDS = 10.0
"""How long a command from another thread may take. A server of a test that takes longer has failed."""


def from_any_thread(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Let a method of a LoopServer be called from any thread: it runs on the event loop of the server."""

    @functools.wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if threading.get_ident() == self.thread_id:
            return method(self, *args, **kwargs)

        async def on_the_loop() -> T:
            return method(self, *args, **kwargs)

        return asyncio.run_coroutine_threadsafe(on_the_loop(), self.loop).result(PATIENCE_SECONDS)

    return call


def reset_at_close(connection: socket.socket) -> None:
    """Let the kernel end a connection with a reset, instead of a FIN, when its socket is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class LoopServer:
    """A server whose port can be closed and opened again.

    `async with server` runs it on the event loop of the test. `with server` runs it on a loop of its own in a thread,
    for tests without an event loop. A subclass says what becomes of a connection (`accepted`).

    An exception in a task of the server is raised when the block ends: a stand-in that has failed silently would let
    tests pass that have tried nothing.
    """

    loop: asyncio.AbstractEventLoop
    thread_id = 0

    def __init__(self) -> None:
        self.port = unused_port()
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self.open_port()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close_port()
        self.end_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports that were ended close their sockets in the next turn of the loop
        if self._failures:
            raise ExceptionGroup(f"{type(self).__name__} has failed", self._failures)

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.__aenter__(), self.loop).result(PATIENCE_SECONDS)
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self.__aexit__(*exc), self.loop).result(PATIENCE_SECONDS)
        finally:
            self._end_thread()

    def _end_thread(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self.loop.close()

    @property
    def url(self) -> str:
        """The URL of the WebSocket endpoint."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @from_any_thread
    def open_port(self) -> None:
        """Accept connections, again after `close_port`."""
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(128)
            self._listener.setblocking(False)
            self.loop.add_reader(self._listener, self._accept, self._listener)

    @from_any_thread
    def close_port(self) -> None:
        """Refuse new connections. Those that are open stay open."""
        if self._listener is not None:
            self.loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted(connection)

    def accepted(self, connection: socket.socket) -> None:
        """Serve a new connection. Called on the event loop; the connection belongs to the subclass from now on."""
        raise NotImplementedError

    def end_connections(self) -> None:
        """End what belongs to open connections and is no task. Called when the block of the server ends."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task until it ends, or until the block of the server ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Call something after some seconds, unless the block of the server has ended."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            do()

        self.spawn(wait())

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.failed(exc)

    def failed(self, exc: BaseException) -> None:
        """Note an exception, which is raised when the block of the server ends."""
        self._failures.append(exc if isinstance(exc, Exception) else RuntimeError(repr(exc)))
