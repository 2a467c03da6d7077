"""Arguments and results of the methods of a publisher."""

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict


class OutgoingMessage(TypedDict):
    """A message for `publish_many`: `data`, and one of `channel`, `channels`, `user_id` and `broadcast`.

    `data` is anything that JSON can hold. `exclude` is the id of a session that does not get the message.
    """

    data: Any
    channel: NotRequired[str]
    channels: NotRequired[list[str]]
    user_id: NotRequired[str]
    broadcast: NotRequired[bool]
    idempotency_key: NotRequired[str]
    exclude: NotRequired[str]


@dataclass(frozen=True)
class PublishResult:
    """The result of publishing a message in one channel.

    `channel` is "direct" for a message to a user, and "broadcast" for a message to everybody. `everywhere` is False
    while Redis is away: the clients of other nodes get the message later. `durable` tells whether Redis has stored the
    message. It has then a position, which is `offset` and `epoch`. In a channel without a history all three are None.
    """

    channel: str
    everywhere: bool
    offset: int | None = None
    epoch: str | None = None
    durable: bool | None = None


@dataclass(frozen=True)
class History:
    """A part of the history of a channel.

    `offset` and `epoch` are the position of the newest message of the channel. `messages` are as clients get them.
    """

    channel: str
    offset: int
    epoch: str
    messages: tuple[dict[str, Any], ...]
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
    """The members of a channel. `count` counts all members, `members` lists at most 1000."""

    channel: str
    count: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Session:
    """A session of a user, which is connected, or was lately and can be resumed.

    `connected_at` and `last_seen` are in seconds since 1970.
    """

    session_id: str
    user_id: str
    username: str
    node_id: str
    worker_id: str
    state: str
    connected_at: float
    last_seen: float
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Sessions:
    """A page of the sessions. `total` counts all that were asked for."""

    total: int
    sessions: tuple[Session, ...]
