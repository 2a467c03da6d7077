"""Sessions, and the interface of the stores that keep them.

A session says who is connected, to which worker, and since when. It outlives its connection and the worker that served
it: for `ttl` seconds after it was last seen, its client can come back to it on any worker.

The worker that serves a session keeps it alive in batches (`touch`, then `flush`), never once a message. A session
without a connection is `detached` until its time is over.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Self

import msgspec

from wsd.worker.hooks.records import SessionFacts
from wsd.worker.security.channel_access import Grant

Clock = Callable[[], float]
"""Returns seconds since the epoch, like time.time."""


class SessionState(StrEnum):
    CONNECTED = "connected"
    DETACHED = "detached"


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session. Times are seconds since the epoch, by the clock of the worker that wrote them."""

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
    grants: dict[str, Grant] = {}  # what the client was given beyond the rules, by channel
    token: str = ""  # digest of the resume token's secret
    last_token: str = ""  # digest of the secret before it, valid until the client has shown that it got the new one
    previous_worker: str = ""  # in the answer to a claim only: the worker that served the session before

    @property
    def facts(self) -> SessionFacts:
        """The facts about the session that each of its events has."""
        return SessionFacts(
            session_id=self.session_id,
            user_id=self.user_id,
            username=self.username,
            connected_at=self.connected_at,
        )

    def to_json(self) -> bytes:
        """Encode the session as JSON.

        Part of the interface of sessions, with `from_json`, for tools that exchange them. The worker does not call it.
        """
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Decode a session from JSON.

        Raises ValueError (msgspec.DecodeError) for a text that is not a session.
        """
        return msgspec.json.decode(text, type=cls)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The request of a client to continue a session, and the token that protects the session from then on."""

    session_id: str
    user_id: str
    username: str  # the present name of the client's identity
    token: str  # digest of the secret that the client showed
    new_token: str  # digest of the secret that it gets
    worker_id: str
    node_id: str

    def apply_to(self, session: SessionInfo, now: float) -> SessionInfo:
        """Return the session as it is once this claim has succeeded."""
        return msgspec.structs.replace(
            session,
            username=self.username,
            worker_id=self.worker_id,
            previous_worker=session.worker_id,
            node_id=self.node_id,
            state=SessionState.CONNECTED,
            last_seen=now,
            token=self.new_token,
            last_token=self.token,
        )


Member = bool | Grant
"""Whether a session is in a channel, or what it was given there beyond the rules."""


class SessionChanged(msgspec.Struct, frozen=True, tag="session"):
    """The notice to the worker that serves a session, on its own channel, that another worker changed or deleted it."""

    session_id: str


class SessionStore(ABC):
    """A store of sessions.

    A session that is not in the store (it never was, or has expired) is None in an answer, or is left out. Every method
    that asks a server raises RedisUnavailableError where the server does not carry that out. An operation on many
    sessions costs as many round trips as one on a single session.
    """

    def __init__(self, ttl: float) -> None:
        """`ttl`: seconds after which a session that nobody touches is gone."""
        self.ttl = ttl

    async def create(self, session: SessionInfo) -> None:
        """Store a session, and replace one with the same id."""
        await self.create_many([session])

    @abstractmethod
    async def create_many(self, sessions: Sequence[SessionInfo]) -> None:
        """Store sessions, and replace those with the same ids."""

    @abstractmethod
    async def get(self, session_id: str) -> SessionInfo | None: ...

    @abstractmethod
    def touch(self, session_id: str) -> None:
        """Note that a connected session of this worker was seen. `flush` writes it; this call costs nothing."""

    @abstractmethod
    async def flush(self) -> None:
        """Write which sessions were touched, and bring back those that this worker serves and the store has lost."""

    @abstractmethod
    async def update_metadata(self, session_id: str, changes: Mapping[str, Any]) -> bool:
        """Merge `changes` into the metadata of a session. A value of None removes its key.

        Return False when there is no such session. Several workers can change different keys at one time without loss.

        Part of the interface of a store, for applications that keep facts about their clients. The worker does not
        call it.
        """

    @abstractmethod
    async def update_channels(self, changes: Mapping[str, Mapping[str, Member]], worker_id: str = "") -> None:
        """Note which channels sessions have joined (True, or a grant) and left (False).

        `changes`: by session id, then by channel. `worker_id`: the worker whose sessions they are, by default this one.
        A session that another worker serves by now stays as it is.
        """

    @abstractmethod
    async def claim(self, claim: Claim) -> SessionInfo | None:
        """Take over a session for a client that came back with its token. Return None when there is none to take.

        The worker that served it is notified, if it lives. Of two clients with one token both succeed, and the last one
        has the session.
        """

    async def detach(self, session_id: str) -> None:
        """Note that the client of a session is gone. It may come back until the session's time is over."""
        await self.detach_many([session_id])

    @abstractmethod
    async def detach_many(self, session_ids: Sequence[str], *, keep_seconds: float | None = None) -> None:
        """Note that the clients of sessions are gone.

        `keep_seconds`: how long the sessions are kept unless somebody claims them, if that is less than `ttl`.
        """

    async def delete(self, session_id: str) -> None:
        await self.delete_many([session_id])

    @abstractmethod
    async def delete_many(self, session_ids: Sequence[str]) -> None: ...

    @abstractmethod
    async def list_by_user(self, user_id: str) -> list[SessionInfo]:
        """Return all sessions of a user on all workers, the oldest first."""

    @abstractmethod
    async def list_by_worker(self, worker_id: str) -> list[SessionInfo]:
        """Return the sessions that a worker serves or served last, the oldest first.

        Part of the interface of a store, for tools that ask what a worker has. The worker does not call it.
        """

    @abstractmethod
    async def list_all(self, offset: int, limit: int) -> list[SessionInfo]:
        """Return a page of all sessions, the last seen first."""

    @abstractmethod
    async def count(self) -> int:
        """Return the number of sessions of all workers, detached ones included."""

    async def refresh(self, session_id: str) -> SessionInfo | None:
        """Read a session of this worker again, after another worker changed it.

        Return None if it is gone or another worker serves it by now.
        """
        return await self.get(session_id)

    async def leave(self) -> None:  # noqa: B027 - a store without other workers has nothing to do
        """Note that this worker ends, with all its sessions detached or deleted."""

    @abstractmethod
    async def cleanup(self) -> int:
        """Forget sessions that have expired, and detach those of workers that died.

        Return how many sessions that concerned; 0 also where another worker cleans up at this moment.
        """


def with_metadata(session: SessionInfo, changes: Mapping[str, Any]) -> SessionInfo:
    """Merge `changes` into the metadata of a session, where None removes a key."""
    merged = {key: value for key, value in {**session.metadata, **changes}.items() if value is not None}
    return msgspec.structs.replace(session, metadata=merged)


def with_channels(session: SessionInfo, changes: Mapping[str, Member]) -> SessionInfo:
    """Return a session with changes of its channels, see `SessionStore.update_channels`."""
    joined = {channel for channel, member in changes.items() if member}
    channels = (session.channels | joined) - (changes.keys() - joined)
    grants = {channel: grant for channel, grant in session.grants.items() if channel not in changes}
    grants |= {channel: member for channel, member in changes.items() if isinstance(member, Grant)}
    return msgspec.structs.replace(session, channels=channels, grants=grants)


def oldest_first(sessions: Iterable[SessionInfo]) -> list[SessionInfo]:
    return sorted(sessions, key=lambda session: (session.connected_at, session.session_id))
