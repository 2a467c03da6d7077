"""WebSocket frames (RFC 6455, 5): the bytes that a server sends, and a reader for what clients send. No I/O.

The reader has two aims: a small unfragmented message costs next to nothing, and an idle connection holds no buffer, no
decoder and no generator.
"""

import codecs
import struct
import zlib
from enum import IntEnum
from typing import Any

from wsd.worker.errors import WorkerError
from wsd.worker.wire.close_codes import CloseCode, may_be_sent
from wsd.worker.wire.compression import Inflater

try:
    from websockets.speedups import apply_mask
except ImportError:  # pragma: no cover - where websockets came without its C code
    from websockets.utils import apply_mask


class Opcode(IntEnum):
    """Opcodes of frames (5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = map(int, Opcode)

FIN, RSV1, RSV23, OPCODE = 0x80, 0x40, 0x30, 0x0F
MASKED, LENGTH = 0x80, 0x7F
MAX_CONTROL_BYTES = 125
"""The maximum size of a control frame's payload (5.5)."""

MAX_EVENTS = 64
"""The maximum number of messages and control frames that are read at once. Their receiver may then want to pause."""

MAX_PARTS = 1024
"""The maximum number of parts of a message before they are joined. A list of single bytes takes 8 times their size."""

MAX_EMPTY_FRAGMENTS = 1024
"""The maximum number of empty fragments in a message. No client in good faith sends more."""

INFLATER_BYTES = 40_000
"""The memory that zlib needs to inflate a message, about."""

Event = tuple[int, str | bytes]
"""An opcode and its content: text as str, anything else as bytes."""


class ProtocolError(WorkerError):
    """The client broke the protocol. `code` and the text are for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def encode(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """Encode a whole message as one frame of a server, which is not masked (5.1)."""
    first = FIN | opcode | (RSV1 if compressed else 0)
    length = len(payload)
    if length <= 125:
        return bytes((first, length)) + payload
    if length <= 0xFFFF:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


EMPTY_CLOSE = encode(CLOSE, b"")
"""A close frame without a code (5.5.1); the receiver reports CloseCode.NO_STATUS."""

MAX_REASON_BYTES = MAX_CONTROL_BYTES - 2
"""The maximum size of a close reason. The code takes the other two bytes."""


def encode_close(code: int, reason: str = "") -> bytes:
    """Encode a close frame, with as much of the reason as it holds (5.5).

    Raises ValueError for a code that must not be sent and for a reason that UTF-8 cannot encode.
    Raises TypeError if the code is not an integer or the reason is not text.
    """
    if not isinstance(code, int) or not isinstance(reason, str):
        raise TypeError(f"a close needs an integer and a text, got {code!r} and {reason!r}")
    if not may_be_sent(code):
        raise ValueError(f"close code {int(code)} must not be sent (RFC 6455, 7.4)")
    try:
        text = reason.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the reason of a close must be text that UTF-8 can encode, got {reason!a}") from None
    return encode(CLOSE, code.to_bytes(2) + cut_reason(text))


def cut_reason(text: bytes) -> bytes:
    """Return as many whole characters of a UTF-8 text as fit into a close frame (5.5)."""
    return text[:MAX_REASON_BYTES].decode(errors="ignore").encode()


def close_reason(text: str) -> str:
    """Make any text fit to be a close reason: not too long, and without lone surrogates."""
    return cut_reason(text.encode(errors="replace")).decode()


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return the code and reason of a close frame, CloseCode.NO_STATUS if it has no code (7.1.5).

    Raises ProtocolError.
    """
    if not payload:
        return CloseCode.NO_STATUS, ""
    if len(payload) == 1:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:2])
    if not may_be_sent(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"close code {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_TEXT, "a close reason that is not UTF-8") from None


class FrameReader:
    """Turns the bytes of a client into complete messages and control frames.

    After a violation nothing more is read. Text is checked as it arrives, so that a message that is not UTF-8 fails
    before its end (8.1).

    Input is parsed only as far as it is wanted: 256 KB on the wire can be 200 MB of compressed messages.
    """

    __slots__ = (
        "_compressed",
        "_data",
        "_decoder",
        "_empty",
        "_fin",
        "_inflate",
        "_mask",
        "_max_bytes",
        "_message",
        "_parts",
        "_position",
        "_remaining",
        "_size",
        "_wire_size",
        "more",
        "violation",
    )

    def __init__(self, max_message_bytes: int, *, compression: bool = False) -> None:
        """`compression`: whether permessage-deflate was negotiated. The limit is checked after inflating, too."""
        self.violation: ProtocolError | None = None
        self.more = False  # whether there may be something complete already, for a further `feed(b"")`
        self._max_bytes = max_message_bytes
        self._compressed = compression
        self._data = b""  # input that is not parsed yet, from `_position` on
        self._position = 0
        self._message = 0  # the opcode of the message that has begun, or 0
        self._remaining = 0  # bytes of the frame's payload that are still to come
        self._fin = False
        self._mask = b""
        self._size = 0  # of the message so far
        self._wire_size = 0  # the same, before inflating
        self._empty = 0  # empty fragments so far
        self._parts: list[str | bytes] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._inflate: Inflater | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the messages and control frames that are complete now, MAX_EVENTS at most.

        Check `more` and `violation` after each call.
        """
        events: list[Event] = []
        if self.violation is None:
            if not self._data:
                self._data = data
            elif data:
                self._data = self._data[self._position :] + data
                self._position = 0
            try:
                self._read(self._data, events)
            except ProtocolError as exc:
                self.violation = exc
                self.more = False
                self._data, self._position = b"", 0
                self._parts = None
        return events

    def read_close(self, payload: bytes) -> tuple[int, str]:
        """Return the code and the reason of the client's close frame.

        A malformed close frame is a violation, whose code and text are returned.
        """
        try:
            return parse_close(payload)
        except ProtocolError as exc:
            self.violation = exc
            return exc.code, str(exc)

    @property
    def held_bytes(self) -> int:
        """The bytes that are held for an incomplete message, or while the receiver is paused: an estimate."""
        if not self._data and not self._message:
            return 0
        inflater = INFLATER_BYTES if self._inflate is not None else 0
        return len(self._data) - self._position + self._size + inflater

    def _read(self, data: bytes, events: list[Event]) -> None:
        """Parse the data until MAX_EVENTS are found, or one message where messages are compressed."""
        position, end = self._position, len(data)
        self.more = False
        while position < end:
            if len(events) >= MAX_EVENTS or (events and self._compressed):
                self.more = True
                self._data, self._position = data, position
                return
            if self._remaining:
                chunk = data[position : position + self._remaining]
                position += len(chunk)
                self._take(chunk, events)
                continue
            body, length = self._head(data, position, end)
            if not body or (data[position] & 0x08 and body + length > end):
                self._data, self._position = data[position:], 0
                return
            first, mask = data[position], data[body - 4 : body]
            position = body
            opcode = first & OPCODE
            if opcode == TEXT and first & FIN and not first & RSV1 and body + length <= end:
                # Nearly all messages are like this: in one frame, and all of it is here.
                position += length
                events.append((TEXT, _text(apply_mask(data[body:position], mask))))
            elif opcode >= CLOSE:
                position += length
                events.append((opcode, apply_mask(data[body:position], mask)))
                if opcode == CLOSE:
                    break  # data after a close frame is ignored (5.5.1)
            else:
                self._begin(first, length, mask, events)
        self._data, self._position = b"", 0

    def _head(self, data: bytes, position: int, end: int) -> tuple[int, int]:
        """Return where the payload of a frame begins, and its length. Zeros if the head is incomplete.

        Raises ProtocolError.
        """
        if end - position < 2:
            self._check_first(data[position])
            return 0, 0
        first, second = data[position], data[position + 1]
        self._check_first(first)
        if not second & MASKED:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a client's frame that is not masked")
        length = second & LENGTH
        body = position + 6
        if first & 0x08:
            if length > MAX_CONTROL_BYTES:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a control frame longer than 125 bytes")
        elif length >= 126:
            wide = 2 if length == 126 else 8
            body += wide
            if end < position + 2 + wide:
                return 0, 0
            length = int.from_bytes(data[position + 2 : position + 2 + wide])
            if length <= (125 if wide == 2 else 0xFFFF) or length >> 63:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a length in the wrong form")
        if self._size + length > self._max_bytes and not first & 0x08:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message longer than {self._max_bytes} bytes")
        return (body, length) if body <= end else (0, 0)

    def _check_first(self, first: int) -> None:
        opcode = first & OPCODE
        if first & RSV23 or (first & RSV1 and not (self._compressed and opcode in (TEXT, BINARY))):
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        if opcode in (TEXT, BINARY):
            if self._message:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a message within a message")
        elif opcode == CONTINUATION:
            if not self._message:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a continuation of nothing")
        elif opcode > PONG or opcode < CLOSE:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"opcode {opcode}")
        elif not first & FIN:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a control frame in fragments")

    def _begin(self, first: int, length: int, mask: bytes, events: list[Event]) -> None:
        """Begin a frame that is a fragment of a message, or that has not arrived completely."""
        opcode = first & OPCODE
        if opcode != CONTINUATION:
            self._message, self._size, self._parts = opcode, 0, []
            self._wire_size = self._empty = 0
            self._inflate = Inflater() if first & RSV1 else None
            self._decoder = codecs.getincrementaldecoder("utf-8")() if opcode == TEXT else None
        self._fin = bool(first & FIN)
        self._wire_size += length
        if not length:
            self._empty += 1
            if self._empty > MAX_EMPTY_FRAGMENTS:
                raise ProtocolError(CloseCode.POLICY, "too many empty fragments")
        if self._wire_size > 2 * self._max_bytes + 1024:  # an endless message of blocks that inflate to nothing
            raise ProtocolError(CloseCode.TOO_BIG, f"a message longer than {self._max_bytes} bytes")
        self._remaining = length
        self._mask = mask
        if not length:
            self._take(b"", events)

    def _take(self, chunk: bytes, events: list[Event]) -> None:
        """Take more of the payload of the current frame."""
        plain = apply_mask(chunk, self._mask)
        turned = len(chunk) % 4
        self._mask = self._mask[turned:] + self._mask[:turned]
        self._remaining -= len(chunk)
        last = self._fin and not self._remaining
        if self._inflate is not None:
            try:
                plain = self._inflate(plain, self._max_bytes - self._size, last=last)
            except zlib.error as exc:
                raise ProtocolError(CloseCode.INVALID_TEXT, f"cannot be inflated: {exc}") from None
        self._size += len(plain)
        if self._size > self._max_bytes:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message longer than {self._max_bytes} bytes")
        assert self._parts is not None
        try:
            part = plain if self._decoder is None else self._decoder.decode(plain, last)
        except UnicodeDecodeError:
            raise ProtocolError(CloseCode.INVALID_TEXT, NOT_UTF8) from None
        if part:
            self._parts.append(part)
            if len(self._parts) > MAX_PARTS:
                self._parts = [self._joined()]
        if last:
            events.append((self._message, self._joined()))
            self._message = self._size = 0
            self._parts = self._decoder = self._inflate = None

    def _joined(self) -> str | bytes:
        parts: Any = self._parts
        return b"".join(parts) if self._decoder is None else "".join(parts)


NOT_UTF8 = "a text that is not UTF-8"


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_TEXT, NOT_UTF8) from None
