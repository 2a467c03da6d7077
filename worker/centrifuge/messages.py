"""The commands, replies and pushes of the Centrifuge client protocol. Their names are those of the protocol.

A field that is absent in a frame has the default of its type: 0, "", false, no message. So has one that is present with
that value. Fields of type Raw hold JSON text, which the server passes on as it is; an empty one stands for an absent
field.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from wsd.worker.wire.position import Epoch, Offset

NO_DATA = Raw(b"")
"""The value of an absent field of type Raw. Encoders leave out this very object."""

CommandId = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Record(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A part of the protocol. Fields with the value of an absent field are left out when the record is encoded."""


class ClientInfo(Record, frozen=True):
    """A connection, as other clients see it. `conn_info` and `chan_info` come from the tokens of its user."""

    user: str = ""
    client: str = ""
    conn_info: Raw = NO_DATA
    chan_info: Raw = NO_DATA


class Publication(Record, frozen=True):
    """A message in a channel. `info` is absent if the server published it, `offset` in a channel without history."""

    data: Raw = NO_DATA
    info: ClientInfo | None = None
    offset: int = 0
    tags: dict[str, str] = {}


class StreamPosition(Record, frozen=True):
    """A place in the history of a channel. An empty epoch matches any."""

    offset: Offset = 0
    epoch: Epoch = ""


class SubscribeRequest(Record, frozen=True):
    """Asks for the messages of a channel; with `recover`, for those after a position, too.

    `flag`: a sum of 1 (the client understands short names of channels) and REJECT_UNRECOVERED.
    `type`: 0 for a channel with a stream of messages. Other types are not served.
    """

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: Epoch = ""
    offset: Offset = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    flag: int = 0
    type: int = 0


REJECT_UNRECOVERED = 2
"""In `SubscribeRequest.flag`: answer with an error, and do not subscribe, where the position cannot be recovered."""


class ConnectRequest(Record, frozen=True):
    """The first command. `subs`: the positions in channels to which the server had subscribed the client.

    `name` and `version` are those of the client's program. `headers`: what a browser cannot set in a handshake.
    """

    token: str = ""
    data: Raw = NO_DATA
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}


class UnsubscribeRequest(Record, frozen=True):
    """Asks for no more messages of a channel."""

    channel: str = ""


class PublishRequest(Record, frozen=True):
    """A message to all members of a channel."""

    channel: str = ""
    data: Raw = NO_DATA


class PresenceRequest(Record, frozen=True):
    """Asks who is in a channel."""

    channel: str = ""


class PresenceStatsRequest(Record, frozen=True):
    """Asks how many connections and users are in a channel."""

    channel: str = ""


class HistoryRequest(Record, frozen=True):
    """Asks for messages that a channel keeps: after `since`, or with `reverse` before it, newest first.

    `limit`: how many at most; 0 for the newest position alone, -1 for all.
    """

    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(Record, frozen=True):
    """A ping from the client, which no known client sends."""


class SendRequest(Record, frozen=True):
    """A message to the server alone, without an answer."""

    data: Raw = NO_DATA


class RPCRequest(Record, frozen=True):
    """Calls a function of the application."""

    data: Raw = NO_DATA
    method: str = ""


class RefreshRequest(Record, frozen=True):
    """Shows another token for the connection."""

    token: str = ""


class SubRefreshRequest(Record, frozen=True):
    """Shows another token for a subscription."""

    channel: str = ""
    token: str = ""


class Command(Record, frozen=True):
    """A message of a client, with one of the requests. One without any is the answer to a ping of the server."""

    id: CommandId = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RPCRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


class BadCommand(Record, frozen=True):
    """A command that is answered with an error in place of being carried out: `detail` says why."""

    id: int
    detail: str


class Error(Record, frozen=True):
    """The answer to a command that was not carried out. `temporary`: the client tries again by itself."""

    code: int
    message: str
    temporary: bool = False


class SubscribeResult(Record, frozen=True):
    """The answer to SubscribeRequest. `ttl`: seconds until the token of the subscription ends, if it `expires`.

    The position is that of the newest message; if messages were recovered, that of the request, and the publications
    move it on.
    """

    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Publication] = []
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA
    was_recovering: bool = False


class ConnectResult(Record, frozen=True):
    """The answer to ConnectRequest. `client` is the id of this connection, which others see.

    `ping`: seconds between the pings of the server. `pong`: whether the client has to answer them.
    `ttl`: seconds until the token ends, if it `expires`.
    `subs`: the channels to which the server subscribes the client.
    `session` and `node` are for transports over HTTP.
    """

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Raw = NO_DATA
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class UnsubscribeResult(Record, frozen=True):
    """The answer to UnsubscribeRequest."""


class PublishResult(Record, frozen=True):
    """The answer to PublishRequest."""


class PresenceResult(Record, frozen=True):
    """The answer to PresenceRequest: the members by the ids of their connections."""

    presence: dict[str, ClientInfo] = {}


class PresenceStatsResult(Struct, frozen=True, kw_only=True):
    """The answer to PresenceStatsRequest. Both fields are always present: the client in JavaScript has no defaults."""

    num_clients: int = 0
    num_users: int = 0


class HistoryResult(Record, frozen=True):
    """The answer to HistoryRequest. The position is that of the newest message in the channel."""

    publications: list[Publication] = []
    epoch: str = ""
    offset: int = 0


class RPCResult(Record, frozen=True):
    """The answer to RPCRequest: what the function has returned."""

    data: Raw = NO_DATA


class RefreshResult(Record, frozen=True):
    """The answer to RefreshRequest. `ttl`: seconds until the new token ends, if it `expires`."""

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(Record, frozen=True):
    """The answer to SubRefreshRequest. `ttl`: seconds until the new token ends, if it `expires`."""

    expires: bool = False
    ttl: int = 0


class Join(Record, frozen=True):
    """A connection has entered the channel."""

    info: ClientInfo


class Leave(Record, frozen=True):
    """A connection has left the channel."""

    info: ClientInfo


class Unsubscribe(Record, frozen=True):
    """The server ends a subscription. From code 2500 on, the client subscribes again, with its position."""

    code: int
    reason: str


class Message(Record, frozen=True):
    """A message of the server to one connection."""

    data: Raw = NO_DATA


class Subscribe(Record, frozen=True):
    """The server subscribes the client to a channel."""

    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw = NO_DATA


class Connect(ConnectResult, frozen=True):
    """The first push of a transport in one direction, which has no command to answer."""


class Refresh(Record, frozen=True):
    """The server has prolonged a connection over a transport in one direction. `ttl`: seconds, if it `expires`."""

    expires: bool = False
    ttl: int = 0


class Disconnect(Record, frozen=True):
    """The server ends the connection. For transports over HTTP; over WebSocket, the close frame says it."""

    code: int
    reason: str


class Push(Record, frozen=True):
    """News that no command has asked for: one of these, in the channel if there is one."""

    channel: str = ""
    pub: Publication | None = None
    join: Join | None = None
    leave: Leave | None = None
    unsubscribe: Unsubscribe | None = None
    message: Message | None = None
    subscribe: Subscribe | None = None
    connect: Connect | None = None
    disconnect: Disconnect | None = None
    refresh: Refresh | None = None


class Reply(Record, frozen=True):
    """A message of the server: the result of a command with the same `id`, an error, or a push.

    An empty one is a ping.
    """

    id: int = 0
    error: Error | None = None
    push: Push | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RPCResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None


PING = Reply()
"""The ping of the server, which the client answers with an empty command."""
