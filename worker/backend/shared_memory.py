"""The memory that several workers of one process share in place of a Redis, in development and in tests."""

from collections import defaultdict
from collections.abc import Callable
from itertools import islice

import msgspec

from wsd.worker.backend.backend import Backend
from wsd.worker.backend.memory_snapshot import MemorySnapshot
from wsd.worker.backend.roster import Roster
from wsd.worker.broker.history import Entry
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.broker.memory_history import MemoryHistory
from wsd.worker.channels.presence import InMemoryPresence
from wsd.worker.channels.receipts import Receipts
from wsd.worker.contract.redis_keys import worker_channel
from wsd.worker.hooks.memory_events import MAX_EVENTS, MemoryEventLog
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.session_store import SessionChanged, SessionInfo
from wsd.worker.wire.messages import Member


class SharedMemory:
    """The messages, histories, sessions and members of several workers on one event loop."""

    def __init__(self, *, session_ttl: float) -> None:
        """`session_ttl`: seconds that a session outlives its connection."""
        self.histories: dict[str, MemoryHistory] = {}
        self.brokers: dict[str, SharedBroker] = {}  # by worker id
        self.members: defaultdict[str, dict[str, dict[str, Member]]] = defaultdict(dict)  # by channel and worker id
        self._rosters: dict[str, Roster] = {}  # by worker id
        self._sessions = InMemorySessionStore(session_ttl)
        self.events = MemoryEventLog(MAX_EVENTS)
        self._receipts = Receipts(None)

    def enter(self, worker_id: str, roster: Roster) -> Backend:
        """Return the backend of a new worker. `roster`: is told which workers live."""
        broker = self.brokers[worker_id] = SharedBroker(self)
        self._rosters[worker_id] = roster
        self._tell_rosters()
        return Backend(
            broker=broker,
            sessions=SharedSessions(self._sessions, self.session_changed, worker_id, self.events),
            presence=SharedPresence(self, worker_id),
            receipts=self._receipts,
            ended_connections=EndedConnections(None, 0),
            events=self.events,
        )

    def leave(self, worker_id: str) -> None:
        """Forget a worker that has ended. Its sessions stay: their clients may resume them on another worker."""
        self.brokers.pop(worker_id, None)
        self._rosters.pop(worker_id, None)
        for channel in [channel for channel, workers in self.members.items() if worker_id in workers]:
            del self.members[channel][worker_id]
        self._tell_rosters()

    def snapshot(self) -> MemorySnapshot:
        """Return the record with which another process can go on. The workers of this one must have ended."""
        return MemorySnapshot(
            histories={channel: history.snapshot() for channel, history in self.histories.items()},
            sessions=self._sessions.snapshot(),
            receipts=self._receipts.snapshot(),
            events=self.events.snapshot(),
        )

    def restore(self, snapshot: MemorySnapshot) -> None:
        """Go on with the record of a process that has ended. No worker of this one may have started."""
        for channel, history in snapshot.histories.items():
            self.histories[channel] = MemoryHistory.restored(history)
        self._sessions.restore(snapshot.sessions)
        self._receipts.restore(snapshot.receipts)
        self.events.restore(snapshot.events)

    def _tell_rosters(self) -> None:
        for roster in self._rosters.values():
            roster.live = frozenset(self._rosters)

    def session_changed(self, session: SessionInfo) -> None:
        """Tell the worker that served a session that the session is deleted, or goes on at another worker."""
        if (broker := self.brokers.get(session.worker_id)) is not None:
            notice = msgspec.json.encode(SessionChanged(session.session_id))
            broker.deliver_message(worker_channel(session.worker_id), notice)


class SharedBroker(InMemoryMessageBroker):
    """The broker of one of the workers. A message reaches the subscribers of all of them."""

    def __init__(self, shared: SharedMemory) -> None:
        super().__init__(shared.histories)
        self._shared = shared

    def _is_subscribed(self, channel: str) -> bool:
        return any(channel in broker._channels for broker in self._shared.brokers.values())

    def deliver_message(self, channel: str, payload: bytes) -> None:
        for broker in list(self._shared.brokers.values()):
            InMemoryMessageBroker.deliver_message(broker, channel, payload)

    def deliver_entry(self, channel: str, entry: Entry) -> None:
        for broker in list(self._shared.brokers.values()):
            InMemoryMessageBroker.deliver_entry(broker, channel, entry)


class SharedSessions(InMemorySessionStore):
    """The sessions of all of the workers, as one of them sees them."""

    def __init__(
        self,
        store: InMemorySessionStore,
        on_changed: Callable[[SessionInfo], None],
        worker_id: str,
        events: MemoryEventLog,
    ) -> None:
        """`store`: the store whose sessions the workers share. `on_changed`: see InMemorySessionStore."""
        super().__init__(store.ttl, on_changed=on_changed, events=events)
        self._sessions, self._by_user, self._ends_at = store._sessions, store._by_user, store._ends_at
        self._worker_id = worker_id

    async def refresh(self, session_id: str) -> SessionInfo | None:
        session = await self.get(session_id)
        return session if session is not None and session.worker_id == self._worker_id else None


class SharedPresence(InMemoryPresence):
    """The members of channels on all of the workers."""

    def __init__(self, shared: SharedMemory, worker_id: str) -> None:
        self._shared = shared
        self._worker_id = worker_id

    def joined(self, channel: str, key: str, member: Member) -> None:
        self._shared.members[channel].setdefault(self._worker_id, {})[key] = member

    def left(self, channel: str, key: str) -> None:
        self._shared.members[channel].get(self._worker_id, {}).pop(key, None)

    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        workers = self._shared.members[channel]
        found = [
            member for worker, members in workers.items() if worker != self._worker_id for member in members.values()
        ]
        return len(found), found[:limit]

    async def of_worker(self, channel: str, worker_id: str, limit: int) -> tuple[int, list[Member]]:
        members = self._shared.members[channel].get(worker_id, {})
        return len(members), list(islice(members.values(), limit))
