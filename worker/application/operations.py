"""Messages and questions of an application to the cluster, from any event loop of its process."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from wsd.worker.application.client import check_name, publishable
from wsd.worker.application.formats import message_of
from wsd.worker.application.records import History, Presence
from wsd.worker.application.running import call, publish_everywhere, running_worker
from wsd.worker.health import WorkerHealth
from wsd.worker.manager.publisher import Published, Publisher
from wsd.worker.manager.statistics import ClusterStatistics
from wsd.worker.wire.channel_names import BROADCAST
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker

T = TypeVar("T")


class Operations:
    """The asynchronous methods of `Cluster` that concern no one client of this process.

    They may be awaited on any event loop, and raise WorkerNotRunningError in a process in which no worker runs.
    `SyncOperations` has the same methods for threads.
    """

    # Messages

    async def publish(self, channel: str, data: Any, *, idempotency_key: str = "") -> Published:
        """Send a message to all members of a channel, on all workers.

        `data`: anything that JSON can express; bytes must be UTF-8 text. `idempotency_key`: of messages with the same
        key, within two minutes, only the first is sent. While Redis is away the message waits for it, see `Published`.

        Raises InvalidChannelError, InvalidDataError; NotStoredError when Redis rejects the message, which nobody has
        received then; TypeError or ValueError for data that JSON cannot express.
        """
        check_name(channel)
        return await publish_everywhere(running_worker(), channel, publishable(data), idempotency_key=idempotency_key)

    async def broadcast(self, data: Any, *, idempotency_key: str = "") -> Published:
        """Send a message to every client of every worker. Everything else is as for `publish`."""
        return await publish_everywhere(running_worker(), BROADCAST, publishable(data), idempotency_key=idempotency_key)

    async def send_to_user(self, user_id: str | int, data: Any, *, idempotency_key: str = "") -> Published:
        """Send a message to all connections of a user, on all workers. Everything else is as for `publish`.

        Raises ValueError for a user id that no user can have.
        """
        channel = Publisher.channel_of_user(str(user_id))
        return await publish_everywhere(running_worker(), channel, publishable(data), idempotency_key=idempotency_key)

    async def history(self, channel: str, since: int = 0, limit: int = 100, *, reverse: bool = False) -> History:
        """Return messages of a channel: those after offset `since`, the oldest first.

        `reverse`: those before offset `since`, the newest first. `limit`: how many at most. Large messages make a page
        shorter; the next page begins where this one ends.

        Raises InvalidChannelError; RedisUnavailableError while Redis is away.
        """
        check_name(channel)
        page = await _run(lambda one: one.manager.history(channel, since, limit, reverse=reverse))
        messages = [message_of(message) for message in page.messages]
        return History(channel, Position(page.offset, page.epoch), messages)

    # Who is there

    async def presence(self, channel: str, limit: int = 1000) -> Presence:
        """Return the number of clients in a channel, on all workers, and up to `limit` of them.

        While Redis is away: only those of this worker. Raises InvalidChannelError.
        """
        check_name(channel)
        count, members = await _run(lambda one: one.manager.presence(channel, limit))
        return Presence(channel, count, members)

    async def stats(self, *, offset: int = 0, limit: int = 10) -> ClusterStatistics:
        """Return statistics of all workers, with a page of the largest users and channels. Takes up to one second."""

        async def collect(worker: Worker) -> ClusterStatistics:
            workers = worker.heartbeat.totals.workers
            return await worker.manager.cluster_statistics(workers, offset=offset, limit=limit)

        return await _run(collect)

    async def health(self) -> WorkerHealth:
        """Return the health of this process's worker, as /health shows it. `serves` says whether it may get traffic."""

        async def judge(worker: Worker) -> WorkerHealth:
            return worker.health()

        return await _run(judge)


async def _run(make: Callable[[Worker], Coroutine[Any, Any, T]]) -> T:
    """Await a coroutine of the running worker on its event loop."""
    worker = running_worker()
    return await call(worker, lambda: make(worker))
