"""The messages between client and server: JSON text, decoded and validated in one pass.

An object from a client that has no `type` is broadcast as it is. With a `type`, it must be a request.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from wsd.worker.errors import WorkerError
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Epoch, Offset, Position

MAX_ID_BYTES = 256
"""The maximum size of a request's id, which also limits its depth. The answer has the same id."""

RequestId = Any
"""The id of a request: any JSON value, or None for a request without one."""

ErrorCode = Literal[
    "byte_rate_limited",
    "channel_full",
    "forbidden",
    "internal_error",
    "invalid_channel",
    "invalid_json",
    "invalid_request",
    "invalid_token",
    "invalid_user",
    "no_presence",
    "no_receipts",
    "not_stored",
    "rate_limited",
    "refused",
    "token_needed",
    "too_big",
    "too_deep",
    "too_many_channels",
    "unavailable",
    "unknown_type",
]
"""The codes of errors, which docs/protocol.md explains."""

LeaveReason = Literal["channel_full", "forbidden", "server", "token_needed"]
"""The reasons why a client is no longer in a channel, which docs/protocol.md explains."""

MAX_ERROR_LENGTH = 300
"""The maximum length of an error's text, in characters."""

MAX_HISTORY_PAGE = 500
"""The maximum number of messages in one answer to History."""


MAX_NEWEST = 100_000
"""How many of the newest messages Subscribe may ask for: as many as the largest `history_size` keeps."""

MAX_TOKEN_LENGTH = 8192
"""The maximum length of a subscription token, in characters."""


class RequestError(WorkerError):
    """A request that is not carried out. `code` is for programs, the text is for people: a client is told both."""

    def __init__(self, code: ErrorCode | str, message: str) -> None:
        super().__init__(shortened(message))
        self.code = code


class WireError(RequestError):
    """A message of a client that is no request of the hub's protocol. `request_id` is its id as far as it has one."""

    def __init__(self, code: ErrorCode, message: str, request_id: RequestId = None) -> None:
        super().__init__(code, message)
        self.request_id = request_id


class Sender(Struct, frozen=True, omit_defaults=True):
    """The sender of a message. It is set by the server, so a client cannot forge it.

    `client`: the id of its connection, for senders whose dialect shows such ids.
    """

    user_id: str
    username: str
    worker_id: str
    """The worker that the client is connected to."""
    client: str = ""
    """The id of its connection, for senders that speak the Centrifuge protocol; "" for others."""


class ChannelState(Struct, omit_defaults=True):
    """The position of a client in a channel. There is none without a history, or while Redis is unavailable."""

    offset: int | None = None
    """The position of the client: its offset. Absent without a history, and while Redis is away."""

    epoch: str | None = None
    """The epoch of the position."""

    recovered: bool | None = None
    """Whether everything that the client missed follows. Absent if the client did not ask for it."""

    count: int | None = None
    """How many messages follow."""

    reason: str | None = None
    """Why not everything follows."""

    @property
    def position(self) -> Position | None:
        return Position(self.offset, self.epoch) if self.offset is not None and self.epoch is not None else None


class Limits(Struct, frozen=True, kw_only=True):
    """The limits for what one client sends, so that it can stay below them. 0 means no limit."""

    messages_per_second: float
    """Messages that the client may send each second, on average."""

    message_burst: float
    """Messages that it may send at once."""

    bytes_per_second: float
    """Bytes that it may send each second, on average."""

    byte_burst: float
    """Bytes that it may send at once."""

    max_message_bytes: int
    """The length of its longest message, in bytes. A longer one closes the connection with 1009."""


class Welcome(Struct, frozen=True, kw_only=True, tag="welcome", omit_defaults=True):
    """The first message of the server."""

    session_id: str
    user_id: str
    username: str
    worker_id: str
    node_id: str
    resumed: bool
    """Whether the client goes on with an earlier session."""

    resume_token: str
    """The secret with which the client comes back to its session."""

    channels: dict[str, ChannelState]
    """The channels that the client is in, and its position in each."""

    limits: Limits
    """What the client may send."""

    refused: dict[str, LeaveReason] = {}
    """Channels that the client may not be in any more, and why."""

    token_expires_in: float | None = None
    """For how many seconds the token is valid. Absent if it does not expire, or there is none."""


class Subscribed(ChannelState, frozen=False, kw_only=True, tag="subscribed", omit_defaults=True):
    """The answer to Subscribe, with the position of the client in the channel."""

    channel: str


class Unsubscribed(Struct, frozen=True, tag="unsubscribed"):
    """The notice that the server has taken the client out of a channel."""

    channel: str
    reason: LeaveReason
    """Why the client is no longer in the channel."""


class PositionNotice(Struct, frozen=True, tag="position"):
    """The position of a message that was sent without one."""

    channel: str
    offset: int
    epoch: str


class Gap(Struct, frozen=True, tag="gap"):
    """A connected client has missed messages of a channel, and is now at this position."""

    channel: str
    reason: str
    """Why the messages are missed: `slow_reader`, or why they are not in the history."""

    offset: int
    epoch: str


class Message(Struct, frozen=True, kw_only=True, tag="message", omit_defaults=True, rename={"sender": "from"}):
    """A message that was published.

    `from` is absent if the server sent it, `channel` and `uid` are absent if it was sent to one connection. In a
    channel with history, `offset` and `epoch` are added once they are known.
    """

    channel: str = ""
    """The name of the channel: "broadcast" for a message to all clients, "direct" for one to the user."""

    data: Any
    sender: Sender | None = None
    """The client that published the message. Absent if the server sent it."""

    uid: str = ""  # the last field, as `attempt_of` needs
    """Two messages of a channel with one uid are the same message."""


class Member(Struct, frozen=True):
    """One connection in a channel. Other clients are not told its session id, but an id that resumes nothing."""

    user_id: str
    username: str
    node_id: str
    worker_id: str
    client: str = ""
    """An id of the connection, which resumes nothing."""


class Members(Struct, frozen=True, tag="presence", omit_defaults=True):
    """The answer to Presence."""

    channel: str
    count: int
    """The number of all members."""

    members: list[Member]
    """The members, or a part of them."""

    id: RequestId = None


class PresenceChanged(Struct, frozen=True, tag="presence_changed"):
    """The members that joined and left a channel."""

    channel: str
    joined: list[Member]
    """Members that joined, or a part of them."""

    left: list[Member]
    """Members that left, or a part of them."""

    joined_count: int
    """The number of all that joined."""

    left_count: int
    """The number of all that left."""


class Ack(Struct, frozen=True, tag="ack", omit_defaults=True):
    """The answer to a request that was carried out."""

    id: RequestId
    offset: int | None = None
    """The offset of the message in its channel. Absent without a history, and while Redis is away."""

    epoch: str | None = None
    durable: bool | None = None
    """Whether Redis has stored the message. Absent without a history."""

    token_expires_in: float | None = None
    """For how many seconds a new token is valid. Absent if it does not expire."""


class HistoryPage(Struct, frozen=True, tag="history", omit_defaults=True):
    """The answer to History."""

    channel: str
    offset: int
    """The offset of the newest message of the channel, not of the last message here."""

    epoch: str
    """The epoch of the messages."""

    messages: list[Raw]
    """The messages, as members of the channel got them."""

    previous: str = ""
    """The epoch before, where the answer goes beyond what Redis keeps of an archived channel, and there is one."""

    incomplete: bool = False
    """Whether messages may be missing, since the archive does not answer or has not written them yet."""

    id: RequestId = None


class Receipt(Struct, frozen=True, tag="delivered", omit_defaults=True):
    """The answer to Delivered."""

    channel: str
    user_id: str
    delivered: bool
    """Whether the user has read everything up to the position."""

    offset: int
    """The offset of the last message that the user has read."""

    id: RequestId = None


class Pong(Struct, frozen=True, tag="pong", omit_defaults=True):
    """The answer to Ping."""

    id: RequestId = None


class Error(Struct, frozen=True, tag="error", omit_defaults=True):
    """The answer to a request that was not carried out. `code` is for programs, `message` for people."""

    code: str
    message: str
    """What is wrong, for people."""

    id: RequestId = None


IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=128)]


class Resume(Struct, frozen=True, tag="resume"):
    """The first message of a client that connected with `?resume=1`."""

    token: Annotated[str, Meta(max_length=256)] = ""
    """The resume token. A client that connected with `?session=` has shown it there."""

    since: dict[str, Position] = {}
    """The position that the client has reached, by channel."""

    id: RequestId = None


class Broadcast(Struct, frozen=True, tag="broadcast"):
    """A message to all clients."""

    data: Raw
    id: RequestId = None
    idempotency_key: IdempotencyKey | None = None


class Subscribe(Struct, frozen=True, tag="subscribe"):
    """Asks for the messages of a channel: from now on, from `since` on, or from the newest `last` on."""

    channel: str
    id: RequestId = None
    since: Position | None = None
    """The position after which the client is sent the messages. It excludes `last`."""

    last: Annotated[int, Meta(ge=1, le=MAX_NEWEST)] | None = None
    """How many of the newest messages the client is sent first."""

    token: Annotated[str, Meta(max_length=MAX_TOKEN_LENGTH)] = ""
    """A subscription token for the channel."""

    def __post_init__(self) -> None:
        """Check that the client asks for one kind of earlier messages.

        Raises ValueError, which becomes `invalid_request`.
        """
        if self.since is not None and self.last is not None:
            raise ValueError("since and last exclude each other")


class Unsubscribe(Struct, frozen=True, tag="unsubscribe"):
    """Asks for no more messages of a channel."""

    channel: str
    id: RequestId = None


class Publish(Struct, frozen=True, tag="publish"):
    """A message to all members of a channel."""

    channel: str
    data: Raw
    id: RequestId = None
    idempotency_key: IdempotencyKey | None = None


class Direct(Struct, frozen=True, tag="direct"):
    """A message to all connections of one user."""

    user_id: str
    """The user whose connections get the message."""

    data: Raw
    id: RequestId = None
    idempotency_key: IdempotencyKey | None = None


class Presence(Struct, frozen=True, tag="presence"):
    """Asks who is in a channel."""

    channel: str
    id: RequestId = None


class History(Struct, frozen=True, tag="history"):
    """Asks for messages of a channel after `since`, or with `reverse` for those before it."""

    channel: str
    epoch: Epoch = ""
    """An earlier epoch of an archived channel, the `previous` of another answer. By default the present one."""

    since: Offset = 0
    """The offset after which the messages begin, or before which with `reverse`. 0 is the beginning, or the end."""

    limit: Annotated[int, Meta(ge=1, le=MAX_HISTORY_PAGE)] = 100
    """How many messages at most."""

    reverse: bool = False
    """Whether the newest message comes first."""

    id: RequestId = None


class Delivered(Struct, frozen=True, tag="delivered"):
    """Asks whether a user has read everything up to this position."""

    channel: str
    user_id: str
    offset: Offset
    epoch: Epoch
    id: RequestId = None


class Refresh(Struct, frozen=True, tag="refresh"):
    """Shows another token of the same user, in place of the one that the client has connected with."""

    token: Annotated[str, Meta(pattern=r"\A[!-+\--~]+\Z")]  # visible ASCII without a comma, as in a handshake
    """The new token."""

    id: RequestId = None


class Ping(Struct, frozen=True, tag="ping"):
    """Asks for a Pong, and says what the client has read in channels with receipts."""

    id: RequestId = None
    positions: dict[str, Position] = {}
    """What the client has read, by channel."""


Request = (
    Broadcast | Subscribe | Unsubscribe | Publish | Direct | Presence | History | Delivered | Refresh | Ping | Resume
)
REQUEST_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Request))


class _Envelope(Struct):
    """The two fields that an error needs. They are not decoded yet, since they may be of any size and depth."""

    type: Raw | msgspec.UnsetType = msgspec.UNSET
    id: Raw | msgspec.UnsetType = msgspec.UNSET


_envelope = msgspec.json.Decoder(_Envelope)
_text = msgspec.json.Decoder(str)
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def encode(message: Struct) -> bytes:
    """Encode a message to a client as JSON."""
    return _encoder.encode(message)


def decode(text: str | bytes) -> Request:
    """Decode one client message.

    Raises WireError: `invalid_json` for anything but a JSON object, `invalid_request` for wrong fields, `unknown_type`
    for a type that is not a request.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()  # data is relayed as it is and must be UTF-8, which msgspec does not check
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


def request_id(text: str | bytes) -> RequestId:
    """Return the id of a request that is refused unread, or None if it has none that can be sent back."""
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


def _id_of(envelope: _Envelope) -> RequestId:
    """Return the id of a request that is refused, or None if the id is invalid."""
    if envelope.id is msgspec.UNSET:
        return None
    try:
        return msgspec.json.decode(envelope.id)
    except msgspec.DecodeError:
        return None


def shortened(text: str, length: int = MAX_ERROR_LENGTH) -> str:
    """Shorten a text that a client may have made long, for an answer or a log."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def check_user(user_id: str) -> None:
    """Check the user id in a request.

    Raises RequestError `invalid_user`.
    """
    if problem := name_problem(user_id):
        raise RequestError("invalid_user", f"user_id {problem}")
