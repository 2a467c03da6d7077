"""Sessions: who is connected, where, and since when. They outlive the connection, and the worker that held it.

A session lives for `ttl` seconds after it was last seen. The worker that serves it keeps it alive in batches
(`touch`, `flush`), never once a message; one that is not connected is `detached` until its time is over.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

import msgspec

Clock = Callable[[], float]


class SessionState(StrEnum):
    CONNECTED = "connected"
    DETACHED = "detached"


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since the epoch, by the clock of the worker that wrote them."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    connected_at: float
    last_seen: float
    state: SessionState = SessionState.CONNECTED
    metadata: dict[str, Any] = {}
    channels: frozenset[str] = frozenset()
    token: str = ""  # digest of the resume token's secret
    last_token: str = ""  # of the one before, good until the client has shown that it got the new one
    came_from: str = ""  # in the answer to a claim: the worker that had it

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError (msgspec.DecodeError) when the text is not a session."""
        return msgspec.json.decode(text, type=cls)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants to go on with a session, and how it is protected from then on."""

    session_id: str
    user_id: str
    username: str  # of the identity that it has now
    token: str  # digest of the one that the client showed
    new_token: str
    worker_id: str
    node_id: str

    def taken(self, session: SessionInfo, now: float) -> SessionInfo:
        return msgspec.structs.replace(
            session,
            username=self.username,
            worker_id=self.worker_id,
            came_from=session.worker_id,
            node_id=self.node_id,
            state=SessionState.CONNECTED,
            last_seen=now,
            token=self.new_token,
            last_token=self.token,
        )


class SessionChanged(msgspec.Struct, frozen=True, tag="session"):
    """To the worker that serves a session, on its own channel: somebody else changed or deleted it."""

    session_id: str


class SessionStore(ABC):
    """What is not there (never was, or has expired) is None, or skipped; only trouble raises.

    Every operation on many sessions costs as many round trips as on one.
    """

    def __init__(self, ttl: float) -> None:
        """`ttl`: seconds after which a session that nobody touches is gone."""
        self.ttl = ttl

    async def create(self, session: SessionInfo) -> None:
        """Store a session, and replace one with the same id."""
        await self.create_many([session])

    @abstractmethod
    async def create_many(self, sessions: Sequence[SessionInfo]) -> None: ...

    @abstractmethod
    async def get(self, session_id: str) -> SessionInfo | None: ...

    @abstractmethod
    def touch(self, session_id: str) -> None:
        """Note that a connected session of this worker was seen; `flush` writes it. Costs nothing."""

    @abstractmethod
    async def flush(self) -> None:
        """Write what was touched, and bring back what this worker still serves but the store has lost."""

    @abstractmethod
    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        """Merge `changes` into the metadata; a value of None removes its key. False when there is no session.

        Updates of different keys by different workers at one time all hold.
        """

    @abstractmethod
    async def update_channels(self, changes: Mapping[str, Mapping[str, bool]]) -> None:
        """By session id and channel: whether the session is subscribed to it now. Of this worker's sessions."""

    @abstractmethod
    async def claim(self, claim: Claim) -> SessionInfo | None:
        """Take a session over, for a client that came back with its token; None when there is none to have.

        The worker that has it, if it lives, is told. Of two clients with one token both succeed, the last one has it.
        """

    async def detach(self, session_id: str) -> None:
        """Its client is gone; it may come back until the session's time is over."""
        await self.detach_many([session_id])

    @abstractmethod
    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        """`keep_seconds`: how long they are kept where nobody claims them, if that is less than `ttl`."""

    async def delete(self, session_id: str) -> None:
        await self.delete_many([session_id])

    @abstractmethod
    async def delete_many(self, session_ids: Sequence[str]) -> None: ...

    @abstractmethod
    async def list_by_user(self, user_id: str) -> list[SessionInfo]:
        """All sessions of a user on all workers, the oldest first."""

    @abstractmethod
    async def list_by_worker(self, worker_id: str) -> list[SessionInfo]:
        """The sessions that a worker serves or served last, the oldest first."""

    @abstractmethod
    async def list_all(self, offset: int, limit: int) -> list[SessionInfo]:
        """A page of all sessions, the last seen first."""

    @abstractmethod
    async def count(self) -> int:
        """Of all workers, detached ones included."""

    async def refresh(self, session_id: str) -> SessionInfo | None:
        """Read one of this worker's sessions again, after another worker changed it."""
        return await self.get(session_id)

    async def leave(self) -> None:  # noqa: B027 - a store without other workers has nothing to do
        """This worker ends, with all its sessions detached or deleted."""

    @abstractmethod
    async def cleanup(self) -> int:
        """Forget what has expired, and detach the sessions of workers that died without a word.

        Returns how many sessions that concerned; 0 also where another worker does it just now.
        """


class InMemorySessionStore(SessionStore):
    """For one process: development, tests, and a worker without any Redis."""

    def __init__(self, ttl: float, clock: Clock = time.time) -> None:
        super().__init__(ttl)
        self._clock = clock
        self._sessions: dict[str, SessionInfo] = {}
        self._by_user: dict[str, set[str]] = {}
        self._ends_at: dict[str, float] = {}  # of those that are kept for less than `ttl`

    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        await self.delete_many([session.session_id for session in sessions])
        for session in sessions:
            self._sessions[session.session_id] = session
            self._by_user.setdefault(session.user_id, set()).add(session.session_id)

    async def get(self, session_id: str) -> SessionInfo | None:
        session = self._sessions.get(session_id)
        return session if session is not None and self._is_live(session) else None

    def touch(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None and session.state is SessionState.CONNECTED:
            self._change(session_id, last_seen=self._clock())

    async def flush(self) -> None:
        pass

    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        session = await self.get(session_id)
        if session is None:
            return False
        self._change(session_id, metadata=merged(session.metadata, changes))
        return True

    async def update_channels(self, changes: Mapping[str, Mapping[str, bool]]) -> None:
        for session_id, channels in changes.items():
            if (session := self._sessions.get(session_id)) is not None:
                self._change(session_id, channels=resubscribed(session.channels, channels))

    async def claim(self, claim: Claim) -> SessionInfo | None:
        session = await self.get(claim.session_id)
        if session is None or session.user_id != claim.user_id or not claim.token:
            return None
        if claim.token not in (session.token, session.last_token):
            return None
        self._ends_at.pop(claim.session_id, None)
        self._sessions[claim.session_id] = claim.taken(session, self._clock())
        return self._sessions[claim.session_id]

    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        for session_id in session_ids:
            self._change(session_id, state=SessionState.DETACHED, last_seen=self._clock())
            if keep_seconds is not None and session_id in self._sessions:
                self._ends_at[session_id] = self._clock() + keep_seconds

    async def delete_many(self, session_ids: Sequence[str]) -> None:
        for session_id in session_ids:
            self._ends_at.pop(session_id, None)
            if (session := self._sessions.pop(session_id, None)) is not None:
                of_user = self._by_user[session.user_id]
                of_user.discard(session_id)
                if not of_user:
                    del self._by_user[session.user_id]

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

    def _change(self, session_id: str, **changes: Any) -> None:
        session = self._sessions.get(session_id)
        if session is not None and self._is_live(session):
            self._sessions[session_id] = msgspec.structs.replace(session, **changes)


def merged(metadata: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**metadata, **changes}.items() if value is not None}


def resubscribed(channels: frozenset[str], changes: Mapping[str, bool]) -> frozenset[str]:
    joined = {channel for channel, member in changes.items() if member}
    return (channels | joined) - (changes.keys() - joined)


def oldest_first(sessions: Iterable[SessionInfo]) -> list[SessionInfo]:
    return sorted(sessions, key=lambda session: (session.connected_at, session.session_id))
