"""Frames with Protocol Buffers: commands and replies, each after its length. The Subprotocol `centrifuge-protobuf`.

Source: github.com/centrifugal/protocol, definitions/client.proto, for the numbers of the fields.
"""

from collections.abc import Iterable

from msgspec import Struct

from wsd.worker.centrifuge import messages
from wsd.worker.centrifuge.messages import Command, Reply
from wsd.worker.centrifuge.protobuf import Codec, ProtobufError, decode_varint, encode_varint

FIELD_NUMBERS: dict[type[Struct], dict[str, int]] = {
    messages.ClientInfo: {"user": 1, "client": 2, "conn_info": 3, "chan_info": 4},
    messages.Publication: {"data": 4, "info": 5, "offset": 6, "tags": 7},
    messages.StreamPosition: {"offset": 1, "epoch": 2},
    messages.SubscribeRequest: {
        "channel": 1, "token": 2, "recover": 3, "epoch": 6, "offset": 7, "data": 8, "positioned": 9,
        "recoverable": 10, "join_leave": 11, "flag": 14, "type": 15,
    },
    messages.ConnectRequest: {"token": 1, "data": 2, "subs": 3, "name": 4, "version": 5, "headers": 6},
    messages.UnsubscribeRequest: {"channel": 1},
    messages.PublishRequest: {"channel": 1, "data": 2},
    messages.PresenceRequest: {"channel": 1},
    messages.PresenceStatsRequest: {"channel": 1},
    messages.HistoryRequest: {"channel": 1, "limit": 7, "since": 8, "reverse": 9},
    messages.PingRequest: {},
    messages.SendRequest: {"data": 1},
    messages.RPCRequest: {"data": 1, "method": 2},
    messages.RefreshRequest: {"token": 1},
    messages.SubRefreshRequest: {"channel": 1, "token": 2},
    messages.Command: {
        "id": 1, "connect": 4, "subscribe": 5, "unsubscribe": 6, "publish": 7, "presence": 8, "presence_stats": 9,
        "history": 10, "ping": 11, "send": 12, "rpc": 13, "refresh": 14, "sub_refresh": 15,
    },
    messages.Error: {"code": 1, "message": 2, "temporary": 3},
    messages.SubscribeResult: {
        "expires": 1, "ttl": 2, "recoverable": 3, "epoch": 6, "publications": 7, "recovered": 8, "offset": 9,
        "positioned": 10, "data": 11, "was_recovering": 12,
    },
    messages.ConnectResult: {
        "client": 1, "version": 2, "expires": 3, "ttl": 4, "data": 5, "subs": 6, "ping": 7, "pong": 8, "session": 9,
        "node": 10, "time": 11,
    },
    messages.UnsubscribeResult: {},
    messages.PublishResult: {},
    messages.PresenceResult: {"presence": 1},
    messages.PresenceStatsResult: {"num_clients": 1, "num_users": 2},
    messages.HistoryResult: {"publications": 1, "epoch": 2, "offset": 3},
    messages.RPCResult: {"data": 1},
    messages.RefreshResult: {"client": 1, "version": 2, "expires": 3, "ttl": 4},
    messages.SubRefreshResult: {"expires": 1, "ttl": 2},
    messages.Join: {"info": 1},
    messages.Leave: {"info": 1},
    messages.Unsubscribe: {"code": 2, "reason": 3},
    messages.Message: {"data": 1},
    messages.Subscribe: {"recoverable": 1, "epoch": 4, "offset": 5, "positioned": 6, "data": 7},
    messages.Connect: {
        "client": 1, "version": 2, "data": 3, "subs": 4, "expires": 5, "ttl": 6, "ping": 7, "pong": 8, "session": 9,
        "node": 10, "time": 11,
    },
    messages.Refresh: {"expires": 1, "ttl": 2},
    messages.Disconnect: {"code": 1, "reason": 2},
    messages.Push: {
        "channel": 2, "pub": 4, "join": 5, "leave": 6, "unsubscribe": 7, "message": 8, "subscribe": 9, "connect": 10,
        "disconnect": 11, "refresh": 12,
    },
    messages.Reply: {
        "id": 1, "error": 2, "push": 4, "connect": 5, "subscribe": 6, "unsubscribe": 7, "publish": 8, "presence": 9,
        "presence_stats": 10, "history": 11, "rpc": 13, "refresh": 14, "sub_refresh": 15,
    },
}  # fmt: skip

_codec = Codec(FIELD_NUMBERS)


def decode(frame: str | bytes) -> list[Command]:
    """Return the commands in a frame.

    Raises ValueError if it is not a sequence of commands.
    """
    if isinstance(frame, str):
        raise ProtobufError("the frame is text")
    commands: list[Command] = []
    at = 0
    while at < len(frame):
        length, at = decode_varint(frame, at)
        if length > len(frame) - at:
            raise ProtobufError("a command ends after the frame")
        commands.append(_codec.decode(frame[at : at + length], Command))
        at += length
    return commands


def encode(replies: Iterable[Reply]) -> bytes:
    """Return a frame with replies, one at least."""
    return b"".join(encode_varint(len(data)) + data for data in map(_codec.encode, replies))


def encode_push(push: messages.Push) -> bytes:
    """Return a push as transports in one direction send it: without the reply around it."""
    return _codec.encode(push)
