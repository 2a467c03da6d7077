"""The broker and the stores of a worker, in Redis or in its memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.presence import InMemoryPresence, Presence
from wsd.worker.channels.receipts import Receipts
from wsd.worker.contract.sentinels.sentinels import Sentinels
from wsd.worker.hooks.memory_events import MAX_EVENTS, MemoryEventLog
from wsd.worker.hooks.redis_events import RedisEventLog
from wsd.worker.redis_client import Redis
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.session_store import SessionStore
from wsd.worker.sessions.user_connections import UserConnections

if TYPE_CHECKING:  # it imports asyncpg, which only an archive needs
    from wsd.worker.archive.reader import ArchiveReader


@dataclass(frozen=True)
class Backend:
    """The broker and the stores of a worker: all of them in Redis, or all of them in its memory."""

    broker: MessageBroker
    sessions: SessionStore
    presence: Presence
    receipts: Receipts
    ended_connections: EndedConnections
    events: RedisEventLog | MemoryEventLog
    user_connections: UserConnections | None = None  # None: no other worker has connections that count
    heartbeat_redis: Redis | None = None  # where heartbeats go; None without Redis
    clients: Sequence[Redis] = ()  # everything that is to be closed in the end
    archive: "ArchiveReader | None" = None  # None where no channel is archived
    sentinels: Sentinels | None = None  # that name the Redis; None where its URL names none

    @property
    def distributed(self) -> bool:
        """Whether the worker has a Redis, reachable or not."""
        return self.heartbeat_redis is not None

    async def aclose(self) -> None:
        """Close the connections to Redis, and to PostgreSQL."""
        if self.archive is not None:
            self.archive.close()
        for client in self.clients:
            await client.aclose()


def memory_backend(*, session_ttl: float, trace_ttl: float, max_events: int = MAX_EVENTS) -> Backend:
    """Make the backend of a worker that is alone: in development, in tests, and with `WSD_WORKER_DISTRIBUTED=0`.

    `session_ttl`: seconds that a session outlives its connection. `trace_ttl`: seconds that the records of ended
    connections are kept. `max_events`: events that may wait for hooks, and for webhooks.
    """
    events = MemoryEventLog(max_events)
    return Backend(
        broker=InMemoryMessageBroker(),
        sessions=InMemorySessionStore(session_ttl, events=events),
        presence=InMemoryPresence(),
        receipts=Receipts(None),
        ended_connections=EndedConnections(None, trace_ttl),
        events=events,
    )
