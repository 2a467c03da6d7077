"""The messages between client and server: JSON text, decoded and validated in one pass.

A client's object without a `type` is a broadcast of itself; with one, it must be a request we know.
"""

import re
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from wsd.worker.contract.redis_keys import BROADCAST, DIRECT
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Epoch, Offset, Position

MAX_ID_BYTES = 256
"""The id of a request comes back with its answer: it may be any JSON of this size, which also bounds its depth."""

MAX_ERROR_LENGTH = 300
MAX_HISTORY_PAGE = 500

CHANNEL_NAME = re.compile(r"[A-Za-z0-9_.:@/#-]{1,255}")


class WireError(Exception):
    """A client's message that cannot be served; `code` is for programs, the text for people."""

    def __init__(self, code: str, message: str, request_id: Any = None) -> None:
        super().__init__(shortened(message))
        self.code = code
        self.request_id = request_id


class Sender(Struct, frozen=True, omit_defaults=True):
    """Who a message is from. Set by the server: a client cannot forge it."""

    user_id: str
    username: str
    worker_id: str


class ChannelState(Struct, omit_defaults=True):
    """Where a client stands in a channel; without a position while Redis is away, or where there is no history."""

    offset: int | None = None
    epoch: str | None = None
    recovered: bool | None = None  # whether all that it missed follows; None when it did not ask
    count: int | None = None  # of messages that follow
    reason: str | None = None  # why not


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome"):
    session_id: str
    user_id: str
    username: str
    worker_id: str
    node_id: str
    resumed: bool
    resume_token: str
    channels: dict[str, ChannelState]


class Subscribed(ChannelState, frozen=False, kw_only=True, tag="subscribed", omit_defaults=True):
    channel: str


class PositionNotice(Struct, frozen=True, tag="position"):
    """What a client got without an offset has one now."""

    channel: str
    offset: int
    epoch: str


class Gap(Struct, frozen=True, tag="gap"):
    """A client that is connected has missed something; it is at this position now."""

    channel: str
    reason: str
    offset: int
    epoch: str


class Message(Struct, frozen=True, kw_only=True, tag="message", omit_defaults=True, rename={"sender": "from"}):
    """`from` is absent when the server itself sent it; `channel` and `uid` when it was sent to one connection.

    In a channel with history, `offset` and `epoch` are added once they are known.
    """

    channel: str = ""
    data: Any
    sender: Sender | None = None
    uid: str = ""  # names the message: two with the same in one channel are one; `attempt_of` needs it to be last


class Member(Struct, frozen=True):
    """One connection in a channel; its session id is nobody else's business."""

    user_id: str
    username: str
    node_id: str
    worker_id: str


class Members(Struct, frozen=True, tag="presence", omit_defaults=True):
    """`members` may be a part of them, `count` is all."""

    channel: str
    count: int
    members: list[Member]
    id: Any = None


class PresenceChanged(Struct, frozen=True, tag="presence_changed"):
    """Who came and who left; the lists may be a part of them, the counts are all."""

    channel: str
    joined: list[Member]
    left: list[Member]
    joined_count: int
    left_count: int


class Ack(Struct, frozen=True, tag="ack", omit_defaults=True):
    """`durable` is None for what is not kept: nobody promises anything about it."""

    id: Any
    offset: int | None = None
    epoch: str | None = None
    durable: bool | None = None


class HistoryPage(Struct, frozen=True, tag="history", omit_defaults=True):
    """`messages` are as they were when they were new; `offset` and `epoch` are the newest there is."""

    channel: str
    offset: int
    epoch: str
    messages: list[Raw]
    id: Any = None


class Receipt(Struct, frozen=True, tag="delivered", omit_defaults=True):
    """`offset` is the last that the user has read."""

    channel: str
    user_id: str
    delivered: bool
    offset: int
    id: Any = None


class Pong(Struct, frozen=True, tag="pong", omit_defaults=True):
    id: Any = None


class Error(Struct, frozen=True, tag="error", omit_defaults=True):
    code: str
    message: str
    id: Any = None


IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=128)]


class Resume(Struct, frozen=True, tag="resume"):
    """The first message of a client that connected with `?resume=1`: its resume token, and what it has seen by channel.

    A client that connected with `?session=` has shown its token there.
    """

    token: Annotated[str, Meta(max_length=256)] = ""
    since: dict[str, Position] = {}
    id: Any = None


class Broadcast(Struct, frozen=True, tag="broadcast"):
    data: Raw
    id: Any = None
    idempotency_key: IdempotencyKey | None = None


class Subscribe(Struct, frozen=True, tag="subscribe"):
    channel: str
    id: Any = None
    since: Position | None = None


class Unsubscribe(Struct, frozen=True, tag="unsubscribe"):
    channel: str
    id: Any = None


class Publish(Struct, frozen=True, tag="publish"):
    channel: str
    data: Raw
    id: Any = None
    idempotency_key: IdempotencyKey | None = None


class Direct(Struct, frozen=True, tag="direct"):
    """To all connections of one user."""

    user_id: str
    data: Raw
    id: Any = None
    idempotency_key: IdempotencyKey | None = None


class Presence(Struct, frozen=True, tag="presence"):
    """Who is in a channel?"""

    channel: str
    id: Any = None


class History(Struct, frozen=True, tag="history"):
    """What was said in a channel: after `since`, or with `reverse` before it and backwards (0: from the newest)."""

    channel: str
    since: Offset = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_PAGE)] = 100
    reverse: bool = False
    id: Any = None


class Delivered(Struct, frozen=True, tag="delivered"):
    """Has a user read all up to this position?"""

    channel: str
    user_id: str
    offset: Offset
    epoch: Epoch
    id: Any = None


class Ping(Struct, frozen=True, tag="ping"):
    """`positions`: what the client has read, for channels with receipts."""

    id: Any = None
    positions: dict[str, Position] = {}


Request = Broadcast | Subscribe | Unsubscribe | Publish | Direct | Presence | History | Delivered | Ping | Resume
REQUEST_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Request))


class _Envelope(Struct):
    """The two fields that an error answer needs, not decoded yet: they may be of any size and depth."""

    type: Raw | msgspec.UnsetType = msgspec.UNSET
    id: Raw | msgspec.UnsetType = msgspec.UNSET


_envelope = msgspec.json.Decoder(_Envelope)
_text = msgspec.json.Decoder(str)
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    return _encoder.encode(message)


def decode(text: str | bytes) -> Request:
    """Decode one client message.

    Raises WireError: `invalid_json` for what is no JSON object, `invalid_request` for a request
    with wrong fields, `unknown_type` for one we do not know.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()  # what is relayed as it is must be text: msgspec skips over it unread
        envelope = _envelope.decode(text)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as exc:
        raise WireError("invalid_json", f"expected a JSON object: {exc}") from None
    if envelope.type is msgspec.UNSET:
        return Broadcast(Raw(text.encode()))
    if envelope.id is not msgspec.UNSET and len(bytes(envelope.id)) > MAX_ID_BYTES:
        raise WireError("invalid_request", f"an id may have {MAX_ID_BYTES} bytes")
    try:
        return _request.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        request_id = _id_of(envelope)
        kind = _type_of(envelope.type)
        if kind not in REQUEST_TYPES:
            raise WireError("unknown_type", f"unknown type {shortened(kind, 80)!r}", request_id) from None
        raise WireError("invalid_request", str(exc), request_id) from None


def request_id(text: str | bytes) -> Any:
    """Return the id of a request that is refused unread; None where it has none that can be sent back."""
    try:
        envelope = _envelope.decode(text.decode() if isinstance(text, bytes) else text)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    if envelope.id is not msgspec.UNSET and len(bytes(envelope.id)) > MAX_ID_BYTES:
        return None
    return _id_of(envelope)


def _type_of(given: Raw) -> str:
    try:
        return _text.decode(given)
    except msgspec.DecodeError:
        return bytes(given).decode()


def _id_of(envelope: _Envelope) -> Any:
    """Return the id of a request that is refused; None where the id itself is wrong."""
    if envelope.id is msgspec.UNSET:
        return None
    try:
        return msgspec.json.decode(envelope.id)
    except msgspec.DecodeError:
        return None


def shortened(text: str, length: int = MAX_ERROR_LENGTH) -> str:
    """Cut a text that a client may have made long, for an answer or a log."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def check_user(user_id: str, request_id: Any) -> None:
    """Raises WireError `invalid_user`."""
    if problem := name_problem(user_id):
        raise WireError("invalid_user", f"user_id {problem}", request_id)


def is_channel(name: str) -> bool:
    """Whether a client may name a channel so."""
    return CHANNEL_NAME.fullmatch(name) is not None and name not in (BROADCAST, DIRECT)


def check_channel(channel: str, request_id: Any) -> None:
    """Raises WireError `invalid_channel`."""
    if not CHANNEL_NAME.fullmatch(channel):
        problem = "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"
    elif channel == BROADCAST:
        problem = "the channel broadcast is heard by all, send a broadcast to it"
    elif channel == DIRECT:
        problem = "the channel direct is each client's own, send a direct message to it"
    else:
        return
    raise WireError("invalid_channel", problem, request_id)
