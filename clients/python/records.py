"""What the calls of a client return."""

from dataclasses import dataclass
from typing import Any

from wsd.client.effects import Message


@dataclass(frozen=True)
class Position:
    """A place in the history of a channel: after the message with this offset."""

    offset: int
    """The number of the message in its channel."""

    epoch: str
    """The run of offsets, which begins anew when the history is lost."""


@dataclass(frozen=True)
class Ack:
    """The hub has carried out a request to publish."""

    position: Position | None
    """The position of the message. None without a history, and while Redis is away."""

    @property
    def offset(self) -> int | None:
        """The offset of the position."""
        return self.position.offset if self.position else None

    @property
    def epoch(self) -> str | None:
        """The epoch of the position."""
        return self.position.epoch if self.position else None


@dataclass(frozen=True)
class Subscribed:
    """The client is in a channel, at this position."""

    position: Position | None
    """The newest position of the channel, or the one from which the client goes on. None without a history."""

    recovered: bool | None
    """Whether everything that the client missed follows. None if it did not ask for it."""

    count: int
    """How many earlier messages follow."""

    reason: str
    """Why not everything follows."""


@dataclass(frozen=True)
class Member:
    """One connection of a user who is in a channel."""

    user_id: str
    username: str
    node_id: str
    worker_id: str


@dataclass(frozen=True)
class Presence:
    """Who is in a channel."""

    count: int
    """The number of all members."""

    members: tuple[Member, ...]
    """The members, at most 1000 of them."""


@dataclass(frozen=True)
class History:
    """A part of a channel's history, and the position of its newest message."""

    position: Position
    """The position of the newest message of the channel."""

    messages: tuple[Message, ...]
    """The messages, as members of the channel got them."""

    previous: str = ""
    """The epoch before, where the answer goes beyond what Redis keeps of an archived channel."""

    incomplete: bool = False
    """Whether messages may be missing: the archive does not answer, or has not written them yet."""


@dataclass(frozen=True)
class Delivered:
    """Whether a user has read a message, and the offset up to which the user has read."""

    delivered: bool
    """Whether the user has read the message."""

    offset: int
    """The offset of the last message that the user has read."""


@dataclass(frozen=True)
class Waiting:
    """The calls that have no answer yet."""

    requests: int
    """How many calls."""

    bytes: int
    """The bytes of their requests."""


@dataclass(frozen=True)
class User:
    """The user that the client is, as the hub has said in its welcome."""

    user_id: str
    username: str


def position_of(answer: Message) -> Position | None:
    """Return the position in a message or an answer of the hub, or None if it has none."""
    offset, epoch = answer.get("offset"), answer.get("epoch")
    return Position(offset, epoch) if isinstance(offset, int) and isinstance(epoch, str) else None


def ack(answer: Message) -> Ack:
    return Ack(position_of(answer))


def subscribed(answer: Message) -> Subscribed:
    recovered = answer.get("recovered")
    return Subscribed(
        position_of(answer),
        recovered if isinstance(recovered, bool) else None,
        whole_number(answer.get("count")),
        str(answer.get("reason", "")),
    )


def presence(answer: Message) -> Presence:
    members = [one for one in answer.get("members") or () if isinstance(one, dict)]
    names = ("user_id", "username", "node_id", "worker_id")
    return Presence(
        whole_number(answer.get("count")),
        tuple(Member(*(str(one.get(name, "")) for name in names)) for one in members),
    )


def history(answer: Message) -> History:
    return History(
        position_of(answer) or Position(0, ""),
        tuple(answer.get("messages") or ()),
        str(answer.get("previous") or ""),
        answer.get("incomplete") is True,
    )


def delivered(answer: Message) -> Delivered:
    return Delivered(answer.get("delivered") is True, whole_number(answer.get("offset")))


def whole_number(value: Any) -> int:
    return value if isinstance(value, int) else 0
