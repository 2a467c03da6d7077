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
    """What is wrong, on one line."""


class PublicMode(Struct, frozen=True):
    """The mode of a worker, which says how far messages reach at this time."""

    mode: Mode
    """How far messages reach."""


class PublicHealth(Struct, frozen=True):
    """The health of a worker, for clients that may not see statistics."""

    status: Status
    """The state of the worker."""

    websocket: PublicMode
    """Its part of the cluster."""


class Result(Struct, frozen=True, omit_defaults=True):
    """The fate of a message in one channel. The position and `durable` are as in an ack of the protocol.

    A message that is not stored has an `error`, and `everywhere` is null.
    """

    channel: str
    everywhere: bool | None
    """Whether all workers have the message. False while Redis is away: other nodes get it later."""

    offset: int | None = None
    """The offset of the message. Absent without a history, and while Redis is away."""

    epoch: str | None = None
    """The epoch of the offset."""

    durable: bool | None = None
    """Whether Redis has stored the message. Absent without a history."""

    error: str = ""
    """Why the message is not stored."""


class PublishAnswer(Struct, frozen=True, kw_only=True):
    """The answer to publishing."""

    published: int
    """The number of results without an error."""

    distributed: bool
    """Whether `everywhere` is true in all results without an error."""

    results: list[Result]
    """A result for each message and channel, in their order."""

    error: str | UnsetType = UNSET
    """Why the first message that is not stored is not."""


class DeletedAnswer(Struct, frozen=True):
    """The messages of a channel are deleted."""

    deleted: bool
    """Always true."""


class PresenceAnswer(Struct, frozen=True):
    """The members of a channel."""

    channel: str
    count: int
    """The number of all members."""

    members: list[wire.Member]
    """The members, or a part of them."""


class ChannelsAnswer(Struct, frozen=True, kw_only=True):
    """A page of the largest channels."""

    complete: bool
    """Whether all workers answered in time."""

    silent: list[str]
    """The workers that did not answer in time."""

    total: int
    """The number of all channels that were counted."""

    channels: list[Counted]
    """The channels of this page, the largest first."""


class ShownSession(Struct, frozen=True, kw_only=True):
    """A session without its secrets, which would let somebody take it over."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    """The worker that serves the session, or served it last."""

    state: SessionState
    """`connected`, or `detached`: the client is away, and may come back."""

    connected_at: float
    """When the session began, in seconds since the epoch."""

    last_seen: float
    """When the client was last seen, in seconds since the epoch."""

    channels: list[str]
    """The channels that the session is in."""

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
    """A page of sessions."""

    total: int
    """The number of all sessions that were asked for."""

    sessions: list[ShownSession]
    """The sessions of this page."""


class EndedAnswer(Struct, frozen=True):
    """The sessions that have ended."""

    sessions: list[ShownSession]
    """The sessions that have ended."""


class ConnectionsAnswer(Struct, frozen=True):
    """The number of connections that have joined or left a channel."""

    connections: int
    """How many connections have joined or left."""
