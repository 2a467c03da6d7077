"""The records that `Cluster` and `Client` hand out. All of them are frozen."""

from typing import Any

from msgspec import Struct

from wsd.worker.wire.messages import Member, PresenceChanged, Sender
from wsd.worker.wire.position import Position


class Message(Struct, frozen=True, kw_only=True):
    """A message that was published in a channel."""

    channel: str
    """The name of the channel; "broadcast" for a message to all clients, "direct" for one to the client's user."""

    data: Any
    """What was published, decoded from JSON."""

    sender: Sender | None = None
    """The client that published it. None: the application did."""

    position: Position | None = None
    """Its place in the history of the channel. None without a history, or while Redis is away."""

    uid: str = ""
    """Two messages of a channel with one uid are the same message. Empty without a history."""


class Gap(Struct, frozen=True):
    """A client has missed messages of a channel, and is now at `position`."""

    channel: str
    reason: str
    """Why: `slow_reader`, or one of the reasons that docs/protocol.md names."""

    position: Position
    """The position that the client has now."""


Record = Message | Gap | PresenceChanged
"""What members of a channel are sent."""


class Joined(Struct, frozen=True, kw_only=True):
    """The place of a client in a channel that it has joined."""

    channel: str
    position: Position | None = None
    """The newest position of the channel; that of the client, if it was in the channel already.

    None without a history, or while Redis is away.
    """

    recovered: bool | None = None
    """Whether all that the client missed follows. None if it did not ask for earlier messages."""

    count: int = 0
    """How many earlier messages follow."""

    reason: str = ""
    """Why not all that the client missed follows."""


class Presence(Struct, frozen=True):
    """The members of a channel on all workers."""

    channel: str
    count: int
    """The number of all members. `members` may be a part of them."""

    members: list[Member]
    """The members, or a part of them."""


class History(Struct, frozen=True):
    """A page of the history of a channel."""

    channel: str
    position: Position
    """The newest position of the channel, not that of the last message here."""

    messages: list[Message]
    """The messages of this page."""

    previous: str = ""
    """The epoch before, where the page goes beyond what Redis keeps of an archived channel, and there is one."""

    incomplete: bool = False
    """Whether messages may be missing, since the archive does not answer or has not written them yet."""


class Session(Struct, frozen=True, kw_only=True):
    """A session of a client. Times are in seconds since the epoch."""

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    """The worker that serves the session, or served it last."""

    state: str
    """`connected`, or `detached`: the client is away, and may come back."""

    connected_at: float
    """When the session began."""

    last_seen: float
    """When the client was last seen."""

    channels: frozenset[str]
    """The channels that the session is in."""


class Sessions(Struct, frozen=True):
    """A page of sessions."""

    total: int
    """The number of all sessions, of which this page has a part."""

    sessions: list[Session]
    """The sessions of this page."""
