"""The workers of this process: one in production, in tests one for each event loop."""

import asyncio
import os
from contextvars import ContextVar

from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.worker import Worker

_workers: list[Worker] = []

_memory: SharedMemory | None = None

_chosen: ContextVar[Worker | None] = ContextVar("wsd_worker", default=None)
"""The worker that serves the present request, where several workers share an event loop."""


def live_workers() -> list[Worker]:
    """Return the workers of this process that can still serve, the newest last.

    A fork has none of the workers of its parent.
    """
    global _workers  # noqa: PLW0603 - a process is one worker
    if any(worker.over for worker in _workers):
        _workers = [worker for worker in _workers if not worker.over]
    return _workers


def separate_workers(worker: Worker) -> list[Worker]:
    """Return the running workers of this process that a message which `worker` publishes does not reach.

    There are some in tests only: Starlette's TestClient may serve each client on an event loop of its own, and without
    a Redis nothing connects the workers of these event loops.
    """
    return [
        other
        for other in live_workers()
        if other is not worker
        and not other.distributed
        and (other.memory is None or other.memory is not worker.memory)
        and other.loop is not None
        and other.loop.is_running()
    ]


def current_worker(env: WorkerEnv | None = None) -> Worker:
    """Return the worker to talk to: the one of the running event loop, or else the newest.

    The first call makes a worker of `env`, by default of the environment of the process. Raises ValueError for a wrong
    value there.
    """
    workers = live_workers()
    return _of_this_loop(workers) or (workers[-1] if workers else _make(env))


def share(memory: SharedMemory) -> None:
    """Let the workers that this module makes share a memory with those that are made elsewhere."""
    global _memory  # noqa: PLW0603 - it belongs to the process, as the workers do
    _memory = memory


def choose_worker(worker: Worker) -> None:
    """Make a worker the current one of this task, and of what the task starts."""
    _chosen.set(worker)


def get_websocket_manager() -> DistributedWebSocketManager:
    """Return the manager of this process. May be called anywhere in the application, also before the worker starts.

    Its environment says whether it is distributed or keeps everything in memory. Its background work begins with the
    `WebSocketMiddleware` around the application, without one with the first connection of a `ConnectionManager`.

    Raises ValueError for a wrong value in the environment.
    """
    return current_worker().manager


def serving_worker(env: WorkerEnv | None = None) -> Worker:
    """Return the worker whose connections live on the running event loop.

    If all workers of the process are on other event loops, make another one. Otherwise as `current_worker`.
    """
    return _of_this_loop(live_workers()) or _make(env)


def _of_this_loop(workers: list[Worker]) -> Worker | None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    chosen = _chosen.get()
    if chosen is not None and chosen in workers and running in (None, chosen.loop):
        return chosen
    for worker in reversed(workers):
        if worker.loop is None or worker.loop is running:
            return worker
    return None


def add_worker(worker: Worker) -> None:
    """Add a worker that was made elsewhere."""
    _workers.append(worker)


def _make(env: WorkerEnv | None) -> Worker:
    worker = Worker(env or WorkerEnv.from_env(os.environ), _memory)
    add_worker(worker)
    return worker
