"""Arguments and results of the methods of a publisher."""

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict


class OutgoingMessage(TypedDict):
    """A message for `publish_many`: `data`, and one of `channel`, `channels`, `user_id` and `broadcast`."""

    data: Any
    """What is published: anything that JSON can hold."""

    channel: NotRequired[str]
    """The channel that the message is for."""

    channels: NotRequired[list[str]]
    """Several channels, each of which gets the message."""

    user_id: NotRequired[str]
    """The user whose connections get the message."""

    broadcast: NotRequired[bool]
    """True for a message to all clients."""

    idempotency_key: NotRequired[str]
    """By default, each message has a key of its own."""

    exclude: NotRequired[str]
    """The id of a session that does not get the message."""


@dataclass(frozen=True)
class PublishResult:
    """The result of publishing a message in one channel."""

    channel: str
    """"direct" for a message to a user, and "broadcast" for a message to everybody."""

    everywhere: bool
    """Whether all workers have the message. False while Redis is away: other nodes get it later."""

    offset: int | None = None
    """The offset of the message. None without a history, and while Redis is away."""

    epoch: str | None = None
    """The epoch of the offset."""

    durable: bool | None = None
    """Whether Redis has stored the message. None without a history."""


@dataclass(frozen=True)
class History:
    """A part of the history of a channel."""

    channel: str
    offset: int
    """The offset of the newest message of the channel."""

    epoch: str
    """The epoch of the messages."""

    messages: tuple[dict[str, Any], ...]
    """The messages, as clients get them."""

    previous: str = ""
    """The epoch before, where this part goes beyond what Redis keeps of an archived channel, and there is one."""

    incomplete: bool = False
    """Whether messages may be missing, since the archive does not answer or has not written them yet."""


@dataclass(frozen=True)
class Member:
    """One connection of a user who is in a channel."""

    user_id: str
    username: str
    node_id: str
    worker_id: str


@dataclass(frozen=True)
class Presence:
    """The members of a channel."""

    channel: str
    count: int
    """The number of all members."""

    members: tuple[Member, ...]
    """The members, at most 1000 of them."""


@dataclass(frozen=True)
class Session:
    """A session of a user, which is connected, or was lately and can be resumed."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    """The worker that serves the session, or served it last."""

    state: str
    """`connected`, or `detached`: the client is away, and may come back."""

    connected_at: float
    """When the session began, in seconds since the epoch."""

    last_seen: float
    """When the client was last seen, in seconds since the epoch."""

    channels: tuple[str, ...]
    """The channels that the session is in."""


@dataclass(frozen=True)
class Sessions:
    """A page of the sessions."""

    total: int
    """The number of all sessions that were asked for."""

    sessions: tuple[Session, ...]
    """The sessions of this page."""
