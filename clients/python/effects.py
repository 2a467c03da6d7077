"""What the state machine of a client wants done. The transport does it, in this order."""

from dataclasses import dataclass
from typing import Any, Literal

Message = dict[str, Any]
"""A JSON object, as the hub sends it."""

StateName = Literal["connecting", "open", "waiting", "closed"]


@dataclass(frozen=True)
class State:
    """The state of a client, as an application may show it.

    `connecting`: an attempt is under way. `open`: the hub has welcomed the client. `waiting`: the client will try again
    in `retry_in` seconds, or with the next call if that is None. `closed`: the client does not come back by itself.
    """

    name: StateName
    """`connecting`, `open`, `waiting` or `closed`."""

    reason: str = ""
    """Why the last connection ended, for people."""

    code: int | None = None
    """The close code of the last connection (RFC 6455, 7.4)."""

    status: int | None = None
    """The HTTP status with which the last handshake was refused."""

    retry_in: float | None = None
    """After how many seconds the client tries again. None: with the next call."""

    failures: int = 0
    """How many attempts in a row led to no connection that lived."""


@dataclass(frozen=True)
class AskToken:
    """Ask the application for a token, and report it with `token_ready` or `token_failed`."""

    attempt: int


@dataclass(frozen=True)
class AskNewToken:
    """Ask the application for a token that replaces the one of the open connection. Reported as for AskToken."""

    attempt: int


@dataclass(frozen=True)
class AskChannelToken:
    """Ask `source` for a token of a channel, and report it with `channel_token_ready` or `channel_token_failed`."""

    request: int
    channel: str
    source: Any  # what the application gave to `subscribe`


@dataclass(frozen=True)
class Connect:
    """Open a WebSocket, and report `opened` or `ended`. `query` is added to the URL."""

    attempt: int
    query: dict[str, str]
    token: str | None


@dataclass(frozen=True)
class Send:
    """Send a text on the WebSocket of this attempt."""

    attempt: int
    text: str


@dataclass(frozen=True)
class Disconnect:
    """Close the WebSocket of this attempt without waiting for anything. Nothing more is heard of it."""

    attempt: int
    code: int


@dataclass(frozen=True)
class Resolve:
    """A call was carried out."""

    request: int
    answer: Message


@dataclass(frozen=True)
class Reject:
    """A call was not carried out, or nobody knows whether it was."""

    request: int
    code: str
    message: str


@dataclass(frozen=True)
class Deliver:
    """A message for the application, which it gets once."""

    message: Message


@dataclass(frozen=True)
class Gap:
    """Messages of a channel were lost."""

    channel: str
    reason: str


@dataclass(frozen=True)
class PresenceChanged:
    """Others have joined or left a channel."""

    event: Message


@dataclass(frozen=True)
class Left:
    """The client is no longer in a channel: the hub has taken it out, or not let it in when the client came back.

    `code`: an error code of the hub, its reason `server`, `forbidden` or `token_needed` (docs/protocol.md), or
    `session_lost`: the server had put the client into the channel, and the new session is not in it.
    """

    channel: str
    code: str
    """Why, for programs."""

    message: str
    """Why, for people."""


@dataclass(frozen=True)
class StateChanged:
    """The client has another state now."""

    state: State


Effect = (
    AskToken
    | AskNewToken
    | AskChannelToken
    | Connect
    | Send
    | Disconnect
    | Resolve
    | Reject
    | Deliver
    | Gap
    | PresenceChanged
    | Left
    | StateChanged
)
