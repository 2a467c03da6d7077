"""The running worker of this process, and calls to it from any event loop."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wsd.worker.application.errors import InvalidDataError, WorkerNotRunningError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.publisher import Published
from wsd.worker.process_workers import current_worker, live_workers, separate_workers
from wsd.worker.worker import Worker

T = TypeVar("T")


def running_worker() -> Worker:
    """Return the worker of the running event loop, or else the newest. Raises WorkerNotRunningError."""
    workers = [worker for worker in live_workers() if _runs(worker)]
    if not workers:
        raise WorkerNotRunningError
    current = current_worker()
    return current if current in workers else workers[-1]


async def call(worker: Worker, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await a coroutine on the worker's event loop, whatever event loop this is called on."""
    if worker.loop is None or worker.loop is asyncio.get_running_loop():
        return await make()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(make(), worker.loop))


async def publish_everywhere(
    worker: Worker,
    channel: str,
    data: Any,
    sender: Connection | None = None,
    *,
    idempotency_key: str = "",
    exclude: str = "",
) -> Published:
    """Publish a message to the members of a channel on all workers.

    Raises NotStoredError; InvalidDataError for a text that UTF-8 cannot encode; TypeError or ValueError for data that
    JSON cannot express.
    """

    def publish(one: Worker) -> Coroutine[Any, Any, Published]:
        return one.manager.publish(channel, data, sender, idempotency_key=idempotency_key, exclude=exclude)

    try:
        published = await call(worker, lambda: publish(worker))
    except UnicodeEncodeError as exc:
        raise InvalidDataError(f"UTF-8 cannot encode a text in the data: {exc}") from None
    tell_others(worker, publish)
    return published


def tell_others(worker: Worker, publish: Callable[[Worker], Coroutine[Any, Any, object]]) -> None:
    """Publish by the workers of this process that a message of `worker` does not reach, see `separate_workers`."""
    for other in separate_workers(worker):
        assert other.loop is not None
        asyncio.run_coroutine_threadsafe(publish(other), other.loop)


def _runs(worker: Worker) -> bool:
    return worker.running and worker.loop is not None and worker.loop.is_running()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_loop_of(worker: Worker) -> bool:
    """Return whether this is called on the worker's event loop."""
    return worker.loop is not None and worker.loop is _running_loop()
