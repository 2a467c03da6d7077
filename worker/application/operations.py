"""Messages and questions of an application to the cluster, from any event loop of its process."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from wsd.worker.application.client import check_name, publishable
from wsd.worker.application.formats import message_of
from wsd.worker.application.records import History, Presence, Session, Sessions
from wsd.worker.application.running import call, publish_everywhere, running_worker
from wsd.worker.health import WorkerHealth
from wsd.worker.manager.publisher import Published, Publisher
from wsd.worker.manager.statistics import ClusterStatistics
from wsd.worker.sessions.session_store import SessionInfo
from wsd.worker.wire.channel_names import BROADCAST
from wsd.worker.wire.close_codes import SESSION_ENDED_REASON, CloseCode
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker

T = TypeVar("T")


class Operations:
    """The asynchronous methods of `Cluster` that concern no one client of this process.

    They may be awaited on any event loop, and raise WorkerNotRunningError in a process in which no worker runs.
    `SyncOperations` has the same methods for threads.
    """

    # Messages

    async def publish(self, channel: str, data: Any, *, idempotency_key: str = "", exclude: str = "") -> Published:
        """Send a message to all members of a channel, on all workers.

        `data`: anything that JSON can express; bytes must be UTF-8 text. `idempotency_key`: of messages with the same
        key, within two minutes, only the first is sent. `exclude`: the id of a session that does not get the message.
        While Redis is away the message waits for it, see `Published`.

        Raises InvalidChannelError, InvalidDataError; NotStoredError when Redis rejects the message, which nobody has
        received then; TypeError or ValueError for data that JSON cannot express.
        """
        check_name(channel)
        return await _publish(channel, data, idempotency_key, exclude)

    async def broadcast(self, data: Any, *, idempotency_key: str = "", exclude: str = "") -> Published:
        """Send a message to every client of every worker. Everything else is as for `publish`."""
        return await _publish(BROADCAST, data, idempotency_key, exclude)

    async def send_to_user(
        self, user_id: str | int, data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> Published:
        """Send a message to all connections of a user, on all workers. Everything else is as for `publish`.

        Raises ValueError for a user id that no user can have.
        """
        return await _publish(Publisher.channel_of_user(str(user_id)), data, idempotency_key, exclude)

    async def history(
        self, channel: str, *, since: int = 0, limit: int = 100, reverse: bool = False, epoch: str = ""
    ) -> History:
        """Return messages of a channel: those after offset `since`, the oldest first.

        `reverse`: those before offset `since`, the newest first. `limit`: how many at most. Large messages make a page
        shorter; the next page begins where this one ends. `epoch`: an earlier epoch of an archived channel, the
        `previous` of another page.

        Raises InvalidChannelError; RedisUnavailableError while Redis is away.
        """
        check_name(channel)
        page = await _run(lambda one: one.manager.history(channel, since, limit, reverse=reverse, epoch=epoch))
        messages = [message_of(message) for message in page.messages]
        return History(channel, Position(page.offset, page.epoch), messages, page.previous, page.incomplete)

    async def delete_history(self, channel: str) -> None:
        """Forget the messages of a channel. Positions go on, and a client that had missed some is told of a gap.

        Raises InvalidChannelError; RedisUnavailableError while Redis is away; ArchiveUnavailableError while the archive
        of the channel does not answer, and nothing is deleted then.
        """
        check_name(channel)
        await _run(lambda one: one.manager.delete_history(channel))

    # Who is there

    async def presence(self, channel: str, *, limit: int = 1000) -> Presence:
        """Return the number of clients in a channel, on all workers, and up to `limit` of them.

        While Redis is away: only those of this worker. Raises InvalidChannelError.
        """
        check_name(channel)
        count, members = await _run(lambda one: one.manager.presence(channel, limit))
        return Presence(channel, count, members)

    async def sessions(self, user_id: str | int = "", *, offset: int = 0, limit: int = 100) -> Sessions:
        """Return a page of the sessions on all workers; only those of a user, if one is named.

        Raises RedisUnavailableError while Redis is away.
        """
        total, found = await _run(lambda one: one.manager.sessions(str(user_id), offset=offset, limit=limit))
        return Sessions(total, [session_of(info) for info in found])

    async def disconnect(
        self,
        *,
        user_id: str | int = "",
        session_id: str = "",
        code: int = CloseCode.SESSION_ENDED,
        reason: str = SESSION_ENDED_REASON,
    ) -> list[Session]:
        """End all sessions of a user, or one session, on whatever worker, and close their connections.

        By default they are closed with 4500, after which clients stay away. Return the sessions that have ended.

        Raises ValueError unless either a user or a session is named, and for a code or a reason that no close frame can
        carry; RedisUnavailableError while Redis is away.
        """
        ended = await _run(
            lambda one: one.manager.end_sessions(user_id=str(user_id), session_id=session_id, code=code, reason=reason)
        )
        return [session_of(info) for info in ended]

    async def subscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user join a channel, on all workers. Return how many have joined.

        Sessions of the user whose clients are away join, too, and are not counted. Takes up to one second.

        Raises InvalidChannelError; ValueError for a user id that no user can have.
        """
        check_name(channel)

        async def join(one: Worker) -> int:
            return await one.manager.subscribe_user(str(user_id), channel, workers=await one.count_workers())

        return await _run(join)

    async def unsubscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user leave a channel, on all workers. Return how many have left.

        Clients that come back meanwhile leave, too, which may take three seconds more. Everything else is as for
        `subscribe`.
        """
        check_name(channel)

        async def leave(one: Worker) -> int:
            return await one.manager.unsubscribe_user(str(user_id), channel, workers=await one.count_workers())

        return await _run(leave)

    async def stats(self, *, offset: int = 0, limit: int = 10) -> ClusterStatistics:
        """Return statistics of all workers, with a page of the largest users and channels. Takes up to one second."""

        async def collect(worker: Worker) -> ClusterStatistics:
            return await worker.manager.cluster_statistics(await worker.count_workers(), offset=offset, limit=limit)

        return await _run(collect)

    async def health(self) -> WorkerHealth:
        """Return the health of this process's worker, as /health shows it. `serves` says whether it may get traffic."""

        async def judge(worker: Worker) -> WorkerHealth:
            return worker.health()

        return await _run(judge)


def session_of(info: SessionInfo) -> Session:
    """Return a session as applications see it, without its secrets."""
    return msgspec.convert(info, Session, from_attributes=True)


async def _publish(channel: str, data: Any, idempotency_key: str, exclude: str) -> Published:
    return await publish_everywhere(
        running_worker(), channel, publishable(data), idempotency_key=idempotency_key, exclude=exclude
    )


async def _run(make: Callable[[Worker], Coroutine[Any, Any, T]]) -> T:
    """Await a coroutine of the running worker on its event loop."""
    worker = running_worker()
    return await call(worker, lambda: make(worker))
