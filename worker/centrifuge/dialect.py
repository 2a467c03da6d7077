"""The dialects of the Centrifuge protocol: one with JSON, one with Protocol Buffers."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from wsd.worker.centrifuge.codes import Unsubscribed, close_for
from wsd.worker.centrifuge.messages import (
    BadCommand,
    ClientInfo,
    Command,
    Join,
    Leave,
    Publication,
    Push,
    Reply,
    Subscribe,
    Unsubscribe,
)
from wsd.worker.centrifuge.names import public_name
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire.frames import encode as encode_frame
from wsd.worker.wire.messages import LeaveReason, Member, PresenceChanged, Sender, Welcome
from wsd.worker.wire.position import Position

UID_TAG = "uid"
"""The tag of a publication with the `uid` of the message: two publications with one uid are the same message."""


class Frames(Protocol):
    """A way to write the protocol: the module `json_frames` or `protobuf_frames`."""

    def decode(self, frame: str | bytes) -> Sequence[Command | BadCommand]: ...
    def encode(self, replies: Iterable[Reply]) -> bytes: ...


class PublishedMessage(Struct, frozen=True, tag="message", rename={"sender": "from"}):
    """A `wire.Message` whose data is passed on as it is."""

    data: Raw
    sender: Sender | None = None
    uid: str = ""


_message = msgspec.json.Decoder(PublishedMessage)
_published: msgspec.json.Decoder[PublishedMessage | PresenceChanged] = msgspec.json.Decoder(
    PublishedMessage | PresenceChanged
)


class CentrifugeDialect(Dialect):
    """The Centrifuge protocol over WebSocket."""

    __slots__ = ("frames", "opcode", "ping_frame")

    resumable = False
    shows_client_ids = True

    def __init__(self, frames: Frames, opcode: int) -> None:
        self.frames = frames
        self.opcode = opcode
        self.ping_frame = encode_frame(opcode, frames.encode([Reply()]))

    def published(self, payload: bytes, channel: str, at: Position | None) -> bytes | None:
        try:
            message = _published.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return None  # a text of the application's own, which no client of this protocol could read
        name = public_name(channel)
        if isinstance(message, PublishedMessage):
            return self.push(Push(channel=name, pub=publication(message, at)))
        joined = [Push(channel=name, join=Join(info=info_of(member))) for member in message.joined]
        left = [Push(channel=name, leave=Leave(info=info_of(member))) for member in message.left]
        return self.push(*joined, *left) if joined or left else None

    def position(self, channel: str, at: Position) -> None:
        """Tell nothing: the protocol has no positions apart from messages."""

    def gap(self, channel: str, reason: str, at: Position) -> bytes:
        """Render the end of a subscription, after which the client subscribes again, and learns what is lost."""
        end = Unsubscribe(code=Unsubscribed.INSUFFICIENT_STATE, reason=f"insufficient state: {reason}")
        return self.push(Push(channel=public_name(channel), unsubscribe=end))

    def welcome(self, welcome: Welcome) -> None:
        """Tell nothing: the reply to `connect` is the welcome, and needs what is known of the command."""

    def joined(self, channel: str, at: Position | None) -> bytes:
        if at is None:
            return self.push(Push(channel=public_name(channel), subscribe=Subscribe()))
        start = Subscribe(recoverable=True, positioned=True, epoch=at.epoch, offset=at.offset)
        return self.push(Push(channel=public_name(channel), subscribe=start))

    def left(self, channel: str, reason: LeaveReason) -> bytes:
        code = Unsubscribed.EXPIRED if reason == "token_needed" else Unsubscribed.BY_SERVER
        return self.push(Push(channel=public_name(channel), unsubscribe=Unsubscribe(code=code, reason=reason)))

    def closing(self, code: int, reason: str) -> tuple[int, str]:
        return close_for(code, reason)

    def push(self, *pushes: Push) -> bytes:
        """Return a frame with pushes."""
        return self.frames.encode(Reply(push=push) for push in pushes)


def publication(message: PublishedMessage, at: Position | None) -> Publication:
    """Return the publication of a message. Where it has no position, a client can tell doubles by their `uid`."""
    info = None
    if (sender := message.sender) is not None:
        info = ClientInfo(user=sender.user_id, client=sender.client)
    tags = {UID_TAG: message.uid} if message.uid else {}
    return Publication(data=message.data, info=info, offset=at.offset if at is not None else 0, tags=tags)


def publication_in(payload: bytes, at: Position | None) -> Publication | None:
    """Return the publication of a message as workers publish it, or None for anything else."""
    try:
        return publication(_message.decode(payload), at)
    except (msgspec.DecodeError, RecursionError):
        return None


def info_of(member: Member) -> ClientInfo:
    """Return what is told of a member of a channel."""
    return ClientInfo(user=member.user_id, client=member.client)
