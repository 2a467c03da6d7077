"""Sessions in the memory of one process."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from wsd.worker.hooks.memory_events import MemoryEventLog
from wsd.worker.sessions.session_store import (
    Claim,
    Clock,
    Member,
    SessionInfo,
    SessionState,
    SessionStore,
    oldest_first,
    with_channels,
    with_metadata,
)


class SessionsSnapshot(msgspec.Struct, frozen=True):
    """The record of the sessions of a store, for another process."""

    sessions: list[SessionInfo]
    ends_at: dict[str, float]


class InMemorySessionStore(SessionStore):
    """The store of a worker without any Redis, for development and tests."""

    def __init__(
        self,
        ttl: float,
        clock: Clock = time.time,
        *,
        on_changed: Callable[[SessionInfo], None] | None = None,
        events: MemoryEventLog | None = None,
    ) -> None:
        """`on_changed`: called with a session, as it was, when it is deleted or goes on at another worker. Where
        workers share this store, the worker that served the session must be told. `events`: what is
        written about sessions, for hooks and webhooks."""
        super().__init__(ttl)
        self._clock = clock
        self._on_changed = on_changed
        self._events = events or MemoryEventLog(0)
        self._sessions: dict[str, SessionInfo] = {}
        self._by_user: dict[str, set[str]] = {}
        self._ends_at: dict[str, float] = {}  # of the sessions that are kept for less than `ttl`

    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        self._remove([session.session_id for session in sessions])
        for session in sessions:
            self._sessions[session.session_id] = session
            self._by_user.setdefault(session.user_id, set()).add(session.session_id)
            self._events.opened(session.facts, session.channels)

    async def get(self, session_id: str) -> SessionInfo | None:
        session = self._sessions.get(session_id)
        return session if session is not None and self._is_live(session) else None

    def touch(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None and session.state is SessionState.CONNECTED and self._is_live(session):
            self._sessions[session_id] = msgspec.structs.replace(session, last_seen=self._clock())

    async def flush(self) -> None:
        pass

    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        session = await self.get(session_id)
        if session is None:
            return False
        self._sessions[session_id] = with_metadata(session, changes)
        return True

    async def update_channels(self, changes: Mapping[str, Mapping[str, Member]], worker_id: str = "") -> None:
        for session_id, channels in changes.items():
            if (session := await self.get(session_id)) is not None:
                self._sessions[session_id] = with_channels(session, channels)
                self._events.moved(session_id, channels)

    async def claim(self, claim: Claim) -> SessionInfo | None:
        session = await self.get(claim.session_id)
        if session is None or session.user_id != claim.user_id or not claim.token:
            return None
        if claim.token not in (session.token, session.last_token):
            return None
        self._ends_at.pop(claim.session_id, None)
        self._sessions[claim.session_id] = claim.apply_to(session, self._clock())
        if self._on_changed is not None and session.worker_id != claim.worker_id:
            self._on_changed(session)
        return self._sessions[claim.session_id]

    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        now = self._clock()
        for session_id in session_ids:
            if (session := await self.get(session_id)) is not None:
                detached = msgspec.structs.replace(session, state=SessionState.DETACHED, last_seen=now)
                self._sessions[session_id] = detached
            if keep_seconds is not None and session_id in self._sessions:
                self._ends_at[session_id] = now + keep_seconds

    async def delete_many(self, session_ids: Sequence[str]) -> None:
        self._remove(session_ids)
        for session_id in session_ids:
            self._events.ended(session_id)

    def _remove(self, session_ids: Iterable[str]) -> None:
        for session_id in session_ids:
            self._ends_at.pop(session_id, None)
            if (session := self._sessions.pop(session_id, None)) is not None:
                of_user = self._by_user[session.user_id]
                of_user.discard(session_id)
                if not of_user:
                    del self._by_user[session.user_id]
                if self._on_changed is not None:
                    self._on_changed(session)

    def snapshot(self) -> SessionsSnapshot:
        """Return the record with which another process can go on."""
        return SessionsSnapshot(list(self._sessions.values()), dict(self._ends_at))

    def restore(self, snapshot: SessionsSnapshot) -> None:
        """Take over the sessions of a process that has ended. Their clients are not connected any more."""
        for session in snapshot.sessions:
            detached = msgspec.structs.replace(session, state=SessionState.DETACHED)
            self._sessions[session.session_id] = detached
            self._by_user.setdefault(session.user_id, set()).add(session.session_id)
        self._ends_at.update(snapshot.ends_at)

    async def list_by_user(self, user_id: str) -> list[SessionInfo]:
        return self._live(self._sessions[session_id] for session_id in self._by_user.get(user_id, ()))

    async def list_by_worker(self, worker_id: str) -> list[SessionInfo]:
        return self._live(session for session in self._sessions.values() if session.worker_id == worker_id)

    async def list_all(self, offset: int, limit: int) -> list[SessionInfo]:
        found = sorted(self._live(self._sessions.values()), key=lambda session: -session.last_seen)
        return found[offset : offset + limit]

    async def count(self) -> int:
        return sum(map(self._is_live, self._sessions.values()))

    async def cleanup(self) -> int:
        expired = [session.session_id for session in self._sessions.values() if not self._is_live(session)]
        await self.delete_many(expired)
        return len(expired)

    def _is_live(self, session: SessionInfo) -> bool:
        ends_at = session.last_seen + self.ttl
        return self._clock() < min(ends_at, self._ends_at.get(session.session_id, ends_at))

    def _live(self, sessions: Iterable[SessionInfo]) -> list[SessionInfo]:
        return oldest_first(filter(self._is_live, sessions))
