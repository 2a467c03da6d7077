"""Calls that block, made from asyncio in daemon threads."""

import asyncio
import concurrent.futures
import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

MAX_THREADS: Final = 10
"""Threads of one object at the same time."""


class Threads:
    """Threads for the calls of one object, which may serve several event loops, one after the other.

    The threads are daemons, unlike those of asyncio.to_thread: a program that ends does not wait for a server that is
    silent. There is none between two calls, so none is missing after a fork.
    """

    def __init__(self) -> None:
        self._free: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    async def call(self, function: Callable[[], T]) -> T:
        """Call a function that blocks, and return its result. A caller that is cancelled does not stop the function."""
        free = self._free.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(MAX_THREADS))
        async with free:
            answer: concurrent.futures.Future[T] = concurrent.futures.Future()
            threading.Thread(target=_resolve, args=(answer, function), name="wsd publisher", daemon=True).start()
            return await asyncio.wrap_future(answer)


def _resolve(answer: "concurrent.futures.Future[T]", function: Callable[[], T]) -> None:
    """Call a function, and give its result or its error to the future."""
    try:
        found = function()
    except BaseException as exc:  # noqa: BLE001 - raised where it is awaited
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # nobody waits any more
            answer.set_exception(exc)
    else:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            answer.set_result(found)
