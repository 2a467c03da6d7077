"""The bodies of the answers of the HTTP API. The OpenAPI document describes them from these records."""

from typing import Self

from msgspec import UNSET, Struct, UnsetType

from wsd.worker.broker.message_broker import Mode
from wsd.worker.health import Status
from wsd.worker.manager.statistics import Counted
from wsd.worker.sessions.session_store import SessionInfo, SessionState
from wsd.worker.wire import messages as wire


class ErrorAnswer(Struct, frozen=True):
    """The answer to a request that was not carried out: one line that says why."""

    error: str


class PublicMode(Struct, frozen=True):
    """The mode of a worker, which says how far messages reach at this time."""

    mode: Mode


class PublicHealth(Struct, frozen=True):
    """The health of a worker, for clients that may not see statistics."""

    status: Status
    websocket: PublicMode


class Result(Struct, frozen=True, omit_defaults=True):
    """The fate of a message in one channel. The position and `durable` are as in an ack of the protocol.

    A message that is not stored has an `error`, and `everywhere` is null.
    """

    channel: str
    everywhere: bool | None
    offset: int | None = None
    epoch: str | None = None
    durable: bool | None = None
    error: str = ""


class PublishAnswer(Struct, frozen=True, kw_only=True):
    """The answer to publishing: one result for each message and channel, in their order.

    `published` is the number of those that are stored; `error` names the first one that is not.
    """

    published: int
    distributed: bool
    results: list[Result]
    error: str | UnsetType = UNSET


class DeletedAnswer(Struct, frozen=True):
    """The messages of a channel are deleted."""

    deleted: bool


class PresenceAnswer(Struct, frozen=True):
    """The members of a channel. `count` counts all members, `members` may be a part of them."""

    channel: str
    count: int
    members: list[wire.Member]


class ChannelsAnswer(Struct, frozen=True, kw_only=True):
    """A page of the largest channels. `silent` are the workers that did not answer in time."""

    complete: bool
    silent: list[str]
    total: int
    channels: list[Counted]


class ShownSession(Struct, frozen=True, kw_only=True):
    """A session without its secrets, which would let somebody take it over. Times are seconds since the epoch."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    state: SessionState
    connected_at: float
    last_seen: float
    channels: list[str]

    @classmethod
    def of(cls, session: SessionInfo) -> Self:
        """Return a session without its secrets."""
        return cls(
            session_id=session.session_id,
            user_id=session.user_id,
            username=session.username,
            node_id=session.node_id,
            worker_id=session.worker_id,
            state=session.state,
            connected_at=session.connected_at,
            last_seen=session.last_seen,
            channels=sorted(session.channels),
        )


class SessionsAnswer(Struct, frozen=True):
    """A page of sessions. `total` is the number of all sessions that were asked for."""

    total: int
    sessions: list[ShownSession]


class EndedAnswer(Struct, frozen=True):
    """The sessions that have ended."""

    sessions: list[ShownSession]


class ConnectionsAnswer(Struct, frozen=True):
    """The number of connections that have joined or left a channel."""

    connections: int
