"""The methods of `Cluster` for threads: Django's views, FastAPI's `def` routes, schedulers, consumers of queues."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wsd.worker.application.errors import EventLoopBlockedError, SyncTimeoutError
from wsd.worker.application.operations import Operations
from wsd.worker.application.records import History, Presence, Session, Sessions
from wsd.worker.application.running import is_loop_of, running_worker
from wsd.worker.health import WorkerHealth
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.statistics import ClusterStatistics
from wsd.worker.wire.close_codes import SESSION_ENDED_REASON, CloseCode

T = TypeVar("T")

TIMEOUT = 30.0
"""How long a call waits for its result, in seconds. Messages do not wait so long, not even while Redis is away."""


class SyncOperations:
    """`cluster.sync`: the methods of the cluster, to be called on any thread but that of the worker's event loop.

    Each method does what the asynchronous method of the same name does, and raises what that raises. Besides, it raises
    SyncTimeoutError when it is not done within `timeout` seconds, EventLoopBlockedError on the worker's event loop, and
    WorkerNotRunningError in a process in which no worker runs.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def publish(
        self, channel: str, data: Any, *, idempotency_key: str = "", exclude: str = "", timeout: float = TIMEOUT
    ) -> Published:
        """Send a message to all members of a channel, see `Cluster.publish`."""
        send = self._operations.publish
        return _wait("publish", lambda: send(channel, data, idempotency_key=idempotency_key, exclude=exclude), timeout)

    def broadcast(
        self, data: Any, *, idempotency_key: str = "", exclude: str = "", timeout: float = TIMEOUT
    ) -> Published:
        """Send a message to every client of every worker, see `Cluster.broadcast`."""
        send = self._operations.broadcast
        return _wait("broadcast", lambda: send(data, idempotency_key=idempotency_key, exclude=exclude), timeout)

    def send_to_user(
        self,
        user_id: str | int,
        data: Any,
        *,
        idempotency_key: str = "",
        exclude: str = "",
        timeout: float = TIMEOUT,
    ) -> Published:
        """Send a message to all connections of a user, see `Cluster.send_to_user`."""
        send = self._operations.send_to_user
        return _wait(
            "send_to_user", lambda: send(user_id, data, idempotency_key=idempotency_key, exclude=exclude), timeout
        )

    def history(
        self,
        channel: str,
        *,
        since: int = 0,
        limit: int = 100,
        reverse: bool = False,
        epoch: str = "",
        timeout: float = TIMEOUT,
    ) -> History:
        """Return messages of a channel, see `Cluster.history`."""
        read = self._operations.history
        return _wait("history", lambda: read(channel, since=since, limit=limit, reverse=reverse, epoch=epoch), timeout)

    def delete_history(self, channel: str, *, timeout: float = TIMEOUT) -> None:
        """Forget the messages of a channel, see `Cluster.delete_history`."""
        _wait("delete_history", lambda: self._operations.delete_history(channel), timeout)

    def presence(self, channel: str, *, limit: int = 1000, timeout: float = TIMEOUT) -> Presence:
        """Return the members of a channel, see `Cluster.presence`."""
        return _wait("presence", lambda: self._operations.presence(channel, limit=limit), timeout)

    def sessions(
        self, user_id: str | int = "", *, offset: int = 0, limit: int = 100, timeout: float = TIMEOUT
    ) -> Sessions:
        """Return a page of sessions, see `Cluster.sessions`."""
        return _wait("sessions", lambda: self._operations.sessions(user_id, offset=offset, limit=limit), timeout)

    def disconnect(
        self,
        *,
        user_id: str | int = "",
        session_id: str = "",
        code: int = CloseCode.SESSION_ENDED,
        reason: str = SESSION_ENDED_REASON,
        timeout: float = TIMEOUT,
    ) -> list[Session]:
        """End all sessions of a user, or one session, see `Cluster.disconnect`."""
        end = self._operations.disconnect
        return _wait(
            "disconnect", lambda: end(user_id=user_id, session_id=session_id, code=code, reason=reason), timeout
        )

    def subscribe(self, user_id: str | int, channel: str, *, timeout: float = TIMEOUT) -> int:
        """Let all connections of a user join a channel, see `Cluster.subscribe`."""
        return _wait("subscribe", lambda: self._operations.subscribe(user_id, channel), timeout)

    def unsubscribe(self, user_id: str | int, channel: str, *, timeout: float = TIMEOUT) -> int:
        """Let all connections of a user leave a channel, see `Cluster.unsubscribe`."""
        return _wait("unsubscribe", lambda: self._operations.unsubscribe(user_id, channel), timeout)

    def stats(self, *, offset: int = 0, limit: int = 10, timeout: float = TIMEOUT) -> ClusterStatistics:
        """Return statistics of all workers, see `Cluster.stats`."""
        return _wait("stats", lambda: self._operations.stats(offset=offset, limit=limit), timeout)

    def health(self, *, timeout: float = TIMEOUT) -> WorkerHealth:
        """Return the health of this process's worker, see `Cluster.health`."""
        return _wait("health", self._operations.health, timeout)


def _wait(method: str, make: Callable[[], Coroutine[Any, Any, T]], timeout: float) -> T:
    """Run a coroutine on the worker's event loop, and wait for its result on this thread."""
    worker = running_worker()
    if is_loop_of(worker):
        raise EventLoopBlockedError(method)
    assert worker.loop is not None
    running = asyncio.run_coroutine_threadsafe(make(), worker.loop)
    try:
        return running.result(timeout)
    except TimeoutError:
        if running.done():  # it has raised a timeout of its own
            raise
        running.cancel()
        raise SyncTimeoutError(method, timeout) from None
