"""Formats: how an application's own clients get what is published in their channels.

Channels carry messages of the hub's protocol. A format turns each into a frame, or into none.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from wsd.worker.application.records import Gap, Message, Record
from wsd.worker.background.containment import report
from wsd.worker.delivery.batch import Message as Frame
from wsd.worker.delivery.batch import OwnMessage, Translation
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.wire import messages as wire
from wsd.worker.wire.frames import BINARY
from wsd.worker.wire.position import Position

Encode = Callable[[Record], str | bytes | None]
"""A function that returns what a client is sent: text, bytes, or None for nothing."""


class _Published(Struct, frozen=True, kw_only=True, tag="message", rename={"sender": "from"}):
    """A message of the hub's protocol, whose data is not decoded yet."""

    channel: str = ""
    data: Raw
    sender: wire.Sender | None = None
    uid: str = ""
    offset: int | UnsetType = UNSET
    epoch: str = ""

    @property
    def position(self) -> Position | None:
        return None if self.offset is UNSET else Position(self.offset, self.epoch)


Notice = wire.PositionNotice | wire.Subscribed | wire.Unsubscribed
"""What only clients of the hub are told."""

_decoder = msgspec.json.Decoder(_Published | wire.Gap | wire.PresenceChanged | Notice)


def data_format(record: Record) -> str | bytes | None:
    """Return the data of a Message alone: a text as it is, anything else as JSON. This is the default format.

    Of any other `record`, nothing is sent.
    """
    return text_of(record.data) if isinstance(record, Message) else None


def hub_format(record: Record) -> str | bytes | None:
    """Return what a client of the hub is sent of a `record`, see docs/protocol.md."""
    match record:
        case Message(channel=channel, data=data, sender=sender, position=at, uid=uid):
            place = {} if at is None else {"offset": at.offset, "epoch": at.epoch}
            message = wire.Message(channel=channel, data=data, sender=sender, uid=uid)
            return msgspec.json.encode({**msgspec.to_builtins(message), **place}).decode()
        case Gap(channel=channel, reason=reason, position=at):
            return HUB.gap(channel, reason, at).decode()
        case _:
            return wire.encode(record).decode()


def text_of(data: Any) -> str:
    """Return data as text: a text as it is, anything else as JSON. Raises TypeError or ValueError if JSON cannot."""
    return data if isinstance(data, str) else msgspec.json.encode(data).decode()


class Format:
    """A format of one application. All clients with the same function share what it returned for a message."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    def __call__(self, message: Frame) -> Translation:
        """Translate a message of the hub's protocol. A text that is none, from `publish_text`, stays as it is.

        A function that raises is reported, and its clients do not get the message.
        """
        try:
            found = _decoder.decode(message.payload)
        except (msgspec.DecodeError, RecursionError):
            return Translation(OwnMessage(message.payload, opcode=message.opcode))
        try:
            item = self._frame(message, found)
        except Exception as exc:  # noqa: BLE001 - the function is the application's
            report("a format of the application", exc)
            item = None
        return Translation(item, found.channel, _position(found))

    def _frame(self, message: Frame, found: _Published | wire.Gap | wire.PresenceChanged | Notice) -> Frame | None:
        if self._encode is hub_format:
            return OwnMessage(message.payload)
        if isinstance(found, Notice):
            return None
        if self._encode is data_format:  # as `data_format` does it, without decoding what need not be decoded
            if not isinstance(found, _Published):
                return None
            data = bytes(found.data)
            return OwnMessage(msgspec.json.decode(data, type=str).encode() if data.startswith(b'"') else data)
        return frame_of(self._encode(_record(found)))


def _position(found: _Published | wire.Gap | wire.PresenceChanged | Notice) -> Position | None:
    """Return the position that a client has reached with a message."""
    match found:
        case _Published():
            return found.position
        case wire.PresenceChanged() | wire.Unsubscribed():
            return None
        case wire.Subscribed():
            return found.position
        case wire.Gap(offset=offset, epoch=epoch) | wire.PositionNotice(offset=offset, epoch=epoch):
            return Position(offset, epoch)


def _record(found: _Published | wire.Gap | wire.PresenceChanged) -> Record:
    match found:
        case _Published():
            return _message(found)
        case wire.Gap():
            return Gap(found.channel, found.reason, Position(found.offset, found.epoch))
        case wire.PresenceChanged():
            return found


def _message(found: _Published) -> Message:
    return Message(
        channel=found.channel,
        data=_decoded(found.data),
        sender=found.sender,
        position=found.position,
        uid=found.uid,
    )


def _decoded(data: Raw) -> Any:
    """Decode what was published. A client may send a number that no float can hold, which is then infinite."""
    try:
        return msgspec.json.decode(data)
    except msgspec.ValidationError:
        return json.loads(bytes(data))


_published = msgspec.json.Decoder(_Published)


def message_of(payload: Raw) -> Message:
    """Return a message of the hub's protocol as a record. Raises msgspec.DecodeError if it is none."""
    return _message(_published.decode(payload))


def frame_of(content: str | bytes | bytearray | memoryview | None) -> OwnMessage | None:
    """Return what a client is sent: a text or a binary message, or nothing. Raises TypeError for anything else."""
    if content is None:
        return None
    if isinstance(content, str):
        return OwnMessage(content.encode())
    if isinstance(content, bytes | bytearray | memoryview):
        return OwnMessage(bytes(content), opcode=BINARY)
    raise TypeError(f"a client is sent str, bytes or None, not {type(content).__name__}")


@lru_cache
def format_of(encode: Encode) -> Format:
    """Return the format of a function, one for all clients."""
    return Format(encode)
