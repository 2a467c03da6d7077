"""What goes out to clients: a message, encoded once for all who get it, and the messages of a channel that go together.

A server's frames are not masked (RFC 6455, 5.1), so that their bytes are the same for every client.
"""

from typing import Literal

from wsd.worker.wire import frames
from wsd.worker.wire.compression import deflate
from wsd.worker.wire.frames import TEXT
from wsd.worker.wire.position import Position

SlowReaders = Literal["close_and_resume", "conflate", "drop_oldest"]
"""What a channel does for members that read too slowly (`channels.slow_readers`)."""

COMPRESS_FROM_BYTES = 256
"""Smaller messages go as they are, whatever was negotiated."""


class Message:
    """`position`: in its channel, where that counts for who reads too slowly."""

    __slots__ = ("_deflated", "frame", "opcode", "payload", "position")

    def __init__(self, payload: bytes, position: Position | None = None, opcode: int = TEXT) -> None:
        self.payload = payload
        self.position = position
        self.opcode = opcode
        self.frame = frames.encode(opcode, payload)
        self._deflated: dict[int, bytes] | None = None

    def deflated(self, window_bits: int) -> bytes:
        """For clients that negotiated compression with this window."""
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


class Batch:
    """Messages of one channel, in order. Those that come within one turn of the event loop are written as one.

    While it is `open`, it is the last that waits for each of its receivers, so that a further message may go with it.
    """

    __slots__ = ("_deflated", "channel", "frame", "messages", "open", "policy")

    def __init__(self, channel: str, policy: SlowReaders, messages: list[Message]) -> None:
        """`channel`: as clients call it."""
        self.channel = channel
        self.policy = policy
        self.messages = messages
        self.open = True
        self.frame = b""
        self._deflated: dict[int, bytes] | None = None

    def sealed(self) -> bytes:
        """All frames; nothing is added any more."""
        self.open = False
        if not self.frame:
            self.frame = b"".join([message.frame for message in self.messages])
        return self.frame

    def deflated(self, window_bits: int) -> bytes:
        self.open = False
        if self._deflated is None:
            self._deflated = {}
        frame = self._deflated.get(window_bits)
        if frame is None:
            frame = b"".join([message.deflated(window_bits) for message in self.messages])
            self._deflated[window_bits] = frame
        return frame


Item = Message | Batch
