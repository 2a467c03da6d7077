"""The items that are sent to clients: messages, encoded once for all receivers, and batches of messages of one channel.

The frames of a server are not masked (RFC 6455, 5.1), so their bytes are the same for every client.
"""

from collections.abc import Callable, Container
from typing import Literal, NamedTuple

from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire import frames
from wsd.worker.wire.compression import deflate
from wsd.worker.wire.frames import TEXT
from wsd.worker.wire.position import Position

SlowReaders = Literal["close_and_resume", "conflate", "drop_oldest"]
"""What a channel does for members that read too slowly (`channels.slow_readers`)."""

COMPRESS_FROM_BYTES = 256
"""Smaller messages are not compressed, whatever was negotiated."""


class Message:
    """One message, encoded as a frame.

    `position` is set where the slow readers of its channel may need it, see `Backlog`.
    """

    __slots__ = ("_deflated", "frame", "opcode", "payload", "position", "translations")

    def __init__(self, payload: bytes, position: Position | None = None, opcode: int = TEXT) -> None:
        self.payload = payload
        self.position = position
        self.opcode = opcode
        self.frame = frames.encode(opcode, payload)
        self.translations: Translations | None = None
        self._deflated: dict[int, bytes] | None = None

    def deflated(self, window_bits: int) -> bytes:
        """Return the frame for clients that negotiated compression with a window of 2^`window_bits` bytes."""
        if len(self.payload) < COMPRESS_FROM_BYTES:
            return self.frame
        if self._deflated is None:
            self._deflated = {}
        frame = self._deflated.get(window_bits)
        if frame is None:
            payload = deflate(self.payload, window_bits)
            frame = self._deflated[window_bits] = frames.encode(self.opcode, payload, compressed=True)
        return frame

    def sealed(self) -> bytes:
        return self.frame

    @property
    def messages(self) -> "list[Message]":
        return [self]


def message_in(dialect: Dialect, payload: bytes | None, position: Position | None = None) -> Message | None:
    """Return the message with a payload that a dialect has rendered; None if it has rendered nothing."""
    return Message(payload, position, dialect.opcode) if payload is not None else None


class OwnMessage(Message):
    """A message that the application sends to one client itself. It is in the application's own protocol already."""

    __slots__ = ()


class Batch:
    """Messages of one channel, in order and in one dialect, that were sent within one turn of the event loop.

    While a batch is `open`, it is the last item in the queue of each of its receivers, so that a further message may
    be added to it.
    """

    __slots__ = ("_deflated", "channel", "frame", "messages", "open", "policy", "translations")

    def __init__(self, channel: str, policy: SlowReaders, messages: list[Message]) -> None:
        """`channel` is the name that clients know."""
        self.channel = channel
        self.policy = policy
        self.messages = messages
        self.open = True
        self.frame = b""
        self.translations: Translations | None = None
        self._deflated: dict[int, bytes] | None = None

    def sealed(self) -> bytes:
        """Return the frames of all messages, and let no message be added any more."""
        self.open = False
        if not self.frame:
            self.frame = b"".join([message.frame for message in self.messages])
        return self.frame

    def deflated(self, window_bits: int) -> bytes:
        """Return the frames for clients that negotiated compression, and let no message be added any more."""
        self.open = False
        if self._deflated is None:
            self._deflated = {}
        frame = self._deflated.get(window_bits)
        if frame is None:
            frame = b"".join([message.deflated(window_bits) for message in self.messages])
            self._deflated[window_bits] = frame
        return frame


Item = Message | Batch


class Translation(NamedTuple):
    """The translation of an item of channels into an application's own protocol, see `delivery.translation`."""

    item: Item | None  # None: nothing is sent
    channel: str = ""
    position: Position | None = None  # that a client has reached in the channel with this item


Translate = Callable[[Message], Translation]
"""Translates a message of the hub's protocol."""

Translations = dict[Translate, Translation]
"""The translations of one item that were made already. All clients with the same function share one."""


def without_channels(items: list[Item], channels: Container[str]) -> list[Item]:
    """Leave out the messages of these channels that have a position, which will be read from a history."""
    kept: list[Item] = []
    for item in items:
        if not isinstance(item, Batch) or item.channel not in channels:
            kept.append(item)
            continue
        item.open = False  # a message that is added to the batch from now on might be missed
        if unnumbered := [message for message in item.messages if message.position is None]:
            kept.append(Batch(item.channel, item.policy, unnumbered))
    return kept
