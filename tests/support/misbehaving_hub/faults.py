"""The faults of the stand-in as values: how a connection begins, what it is sent, how its requests are answered."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.misbehaving_hub.memory import Message

When = Callable[[Message], bool]
"""Chooses the requests that a fault is about."""


# Choices of requests


def anything(request: Message) -> bool:
    return True


def of_type(*types: str) -> When:
    return lambda request: request.get("type") in types


def saying(data: object) -> When:
    """Choose messages with this `data`."""
    return lambda request: "data" in request and request["data"] == data


def in_channel(channel: str, *types: str) -> When:
    """Choose requests about a channel; those of some types only, if any are given."""
    return lambda request: request.get("channel") == channel and (not types or request.get("type") in types)


def larger_than(size: int) -> When:
    """Choose requests whose JSON has more bytes."""
    return lambda request: len(json.dumps(request)) > size


# How a connection begins


@dataclass(frozen=True)
class ResetAtOnce:
    """The connection is reset as soon as it is accepted."""


@dataclass(frozen=True)
class NeverAnswer:
    """The handshake gets no answer, and the connection stays open."""


@dataclass(frozen=True)
class Answer:
    """The handshake is answered with an HTTP response that refuses it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    body: str = ""


def too_many(retry_after: str) -> Answer:
    """Answer 429. `retry_after` is a number of seconds or an HTTP date."""
    return Answer(429, {"Retry-After": retry_after})


def redirect(to: str) -> Answer:
    return Answer(302, {"Location": to})


def captive_portal() -> Answer:
    """Answer as the network of a hotel does: with its own page, to whatever was asked."""
    return Answer(200, {"Content-Type": "text/html"}, "<!doctype html><title>Welcome</title>Accept our terms.")


@dataclass(frozen=True)
class NeverWelcome:
    """The handshake succeeds, and nothing follows."""


@dataclass(frozen=True)
class CloseAtOnce:
    """The connection is closed right after the welcome, or in its place. Code 1006 stands for a reset."""

    code: int
    reason: str = ""
    welcome: bool = True


@dataclass(frozen=True)
class GoAway:
    """The connection is cut after the welcome, and the port refuses connections for some seconds."""

    seconds: float
    welcome: bool = True


# What a connection is sent


@dataclass(frozen=True)
class Say:
    """Items are sent right after the welcome, or before it: text as it is, bytes as binary, messages as JSON."""

    items: tuple[str | bytes | Message, ...] = field(hash=False)
    before_welcome: bool = False


@dataclass(frozen=True)
class SayRaw:
    """Bytes are sent right after the welcome that need not be WebSocket frames."""

    data: bytes


@dataclass(frozen=True)
class SayTwice:
    """Each message of a channel is sent twice."""


@dataclass(frozen=True)
class ForgetSession:
    """The session that the client asks for is over: `resumed` is false."""


@dataclass(frozen=True)
class Unrecovered:
    """What was missed in a channel is not told, for a reason such as `trimmed`."""

    channel: str
    reason: str = "trimmed"


@dataclass(frozen=True)
class RefuseResubscription:
    """The welcome leaves a channel out, and a request to subscribe to it is refused."""

    channel: str
    code: str = "forbidden"


# How requests are answered


@dataclass(frozen=True)
class Refuse:
    """Requests are answered with an error."""

    code: str
    when: When = anything
    times: int | None = None  # how many requests, of all connections together; None: all


@dataclass(frozen=True)
class CloseOn:
    """The connection is closed when a request comes. Code 1006 stands for a reset.

    With `carried_out` the request is carried out first, and its answer is lost.
    """

    code: int
    when: When = anything
    times: int | None = None
    reason: str = ""
    carried_out: bool = False


def die_on(data: object) -> CloseOn:
    """Reset the connection each time a message with this `data` comes, as a worker that the message kills."""
    return CloseOn(1006, saying(data))


def too_large(size: int) -> CloseOn:
    """Close with 1009 for a request of more bytes of JSON, as the hub does for `websocket.max_message_bytes`."""
    return CloseOn(1009, larger_than(size))


@dataclass(frozen=True)
class NeverReply:
    """Requests are not answered, and with `carried_out` carried out nevertheless."""

    when: When = anything
    times: int | None = 1
    carried_out: bool = False


@dataclass(frozen=True)
class ReplyLate:
    """Requests are carried out and answered after some seconds. Those that come meanwhile do not wait for them."""

    seconds: float
    when: When = anything
    times: int | None = None


@dataclass(frozen=True)
class NotDurableYet:
    """Messages are acknowledged with `durable: false`, and stored some seconds later, with a second ack."""

    seconds: float
    when: When = anything
    times: int | None = None


OnRequest = Refuse | CloseOn | NeverReply | ReplyLate | NotDurableYet
AtTheDoor = ResetAtOnce | NeverAnswer | Answer | NeverWelcome | CloseAtOnce | GoAway
Fault = AtTheDoor | Say | SayRaw | SayTwice | ForgetSession | Unrecovered | RefuseResubscription | OnRequest


STRANGE = "channel:nobody:joined"

GARBAGE: dict[str, str | bytes | Message] = {
    "no JSON": "<html>hello</html>",
    "an empty text": "",
    "half an object": '{"type": "message", "chan',
    "null": "null",
    "a number": "42",
    "a text": '"welcome"',
    "an array": "[]",
    "an object without a type": {"data": 1},
    "a type that is no text": {"type": 7},
    "an unknown type": {"type": "from_the_future", "data": 1},
    "a type that every object has": {"type": "constructor"},
    "binary": b"\x00\xff\x00",
    "binary JSON": b'{"type": "message", "channel": "broadcast", "data": "binary"}',
    "an ack of nothing": {"type": "ack", "id": 987_654_321, "offset": 1, "epoch": "x", "durable": True},
    "an ack without an id": {"type": "ack"},
    "an ack whose id is an object": {"type": "ack", "id": {"a": 1}},
    "an error of nothing": {"type": "error", "id": 987_654_321, "code": "forbidden", "message": "no"},
    "an error without an id": {"type": "error", "code": "internal_error", "message": "no"},
    "an error with an unknown code": {"type": "error", "code": "from_the_future"},
    "a message without a channel": {"type": "message", "data": 1},
    "a message of a strange channel": {"type": "message", "channel": STRANGE, "data": 1, "offset": 5, "epoch": "x"},
    "a message whose uid is a number": {"type": "message", "channel": STRANGE, "data": 1, "uid": 7},
    "a subscription to a strange channel": {"type": "subscribed", "channel": STRANGE, "offset": 5, "epoch": "x"},
    "a subscription to nothing": {"type": "subscribed"},
    "a gap in a strange channel": {"type": "gap", "channel": STRANGE, "reason": "trimmed", "offset": 5, "epoch": "x"},
    "a position in a strange channel": {"type": "position", "channel": STRANGE, "offset": 5, "epoch": "x"},
    "a position of nothing": {"type": "position"},
    "presence of a strange channel": {"type": "presence_changed", "channel": STRANGE, "joined": [], "left": []},
    "a pong": {"type": "pong"},
    "a second welcome without channels": {"type": "welcome", "resumed": False},
}
"""Items for `Say`, which no hub of today sends, or not at that time. A client must outlive each."""

RAW_GARBAGE: dict[str, bytes] = {
    "text that is not UTF-8": b"\x81\x02\xc3\x28",
    "reserved bits": b"\xf1\x01a",
    "an unknown opcode": b"\x83\x00",
    "a masked frame": b"\x81\x81\x00\x00\x00\x00a",
    "a continuation of nothing": b"\x80\x01a",
    "HTTP in place of a frame": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n" + b"x" * 100,
    "half a frame and the end": b"\x81\x7e\x10\x00abc",
}
"""Bytes for `SayRaw`, which break RFC 6455. A client must end the connection, and come back."""
