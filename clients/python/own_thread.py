"""A thread with an event loop of its own, in which a client runs."""

import asyncio
import concurrent.futures
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wsd.client.asyncio_client import WsdClient
from wsd.client.errors import CLOSED, RequestError

T = TypeVar("T")


class Loop(asyncio.SelectorEventLoop):
    """An event loop that looks up names in daemon threads.

    asyncio does so in threads of an executor. The program waits for those before it exits, and a look-up in a broken
    network takes long.
    """

    async def getaddrinfo(  # type: ignore[override]
        self, host: str | None, port: str | int | None, **options: Any
    ) -> Any:
        return await in_daemon_thread(lambda: socket.getaddrinfo(host, port, **options), "wsd client: name look-up")


async def in_daemon_thread(function: Callable[[], T], name: str) -> T:
    """Return what a function returns that may block. The program can end while the function runs."""
    answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            found = function()
        except Exception as exc:  # noqa: BLE001 - raised where it is awaited
            # A future cannot hold StopIteration, which next() raises.
            problem = RuntimeError(repr(exc)) if isinstance(exc, StopIteration) else exc
            with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
                answer.set_exception(problem)
        else:
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                answer.set_result(found)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(answer)


class OwnThread:
    """A daemon thread that runs a client until `end`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._over = False
        self._lock = threading.Lock()  # after `_over` is set, nothing is submitted any more

    def start(self, client: WsdClient) -> None:
        """Start the thread, and return once the client runs."""
        with self._lock:
            if self._thread is not None or self._over:
                raise RuntimeError("a client can be started once; create another one")
            ready = threading.Event()
            self._thread = threading.Thread(target=self._run, args=(client, ready), name=self._name, daemon=True)
            self._thread.start()
        ready.wait()

    def submit(self, work: Coroutine[Any, Any, T]) -> "concurrent.futures.Future[T]":
        """Begin to do something in the thread.

        Raises RequestError after `end`, and RuntimeError before `start` and in the thread itself.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("functions that run in the client's own thread cannot wait for it")
        with self._lock:
            if self._over:
                raise RequestError(CLOSED, "closed by the application")
            if self._loop is None:
                raise RuntimeError("the client does not run yet: use `with`, or call start()")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def end(self) -> None:
        """End the client and the thread. Return once it has ended, unless it is the caller."""
        with self._lock:
            if not self._over and self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
            self._over = True
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self, client: WsdClient, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:  # in the end, it cancels what was submitted and still runs
            runner.run(self._serve(client, ready))

    async def _serve(self, client: WsdClient, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with client:
                ready.set()
                await self._stop.wait()
        finally:
            ready.set()
            with self._lock:  # also after a fault
                self._over = True
