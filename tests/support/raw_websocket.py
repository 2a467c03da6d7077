"""WebSockets by hand: frames as bytes, with every mistake that a client can make, and none of the code under test."""

import base64
import os
import socket
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PATIENCE_SECONDS = 5.0
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    length_bytes: int | None = None,
) -> bytes:
    """Encode a frame of a client.

    `rsv` is the sum of 4, 2 and 1 for RSV1, RSV2 and RSV3. `length_bytes` (0, 2 or 8) is the size of the extended
    payload length; as small as possible by default.
    """
    length = len(payload)
    wide = length_bytes if length_bytes is not None else 0 if length < 126 else 2 if length < 65536 else 8
    short = {0: length, 2: 126, 8: 127}[wide]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short]) + length.to_bytes(8)[8 - wide :]
    if mask is None:
        return head + payload
    repeated = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
    return head + mask + masked


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def fragments(opcode: int, parts: Iterable[bytes]) -> list[bytes]:
    all_parts = list(parts)
    last = len(all_parts) - 1
    return [frame(opcode if n == 0 else 0, part, fin=n == last) for n, part in enumerate(all_parts)]


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def deflated(payload: bytes, window_bits: int = 15) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes, window_bits: int = 15) -> bytes:
    return zlib.decompressobj(-window_bits).decompress(payload + b"\x00\x00\xff\xff")


class RawSocket:
    """A connection whose bytes the test sends and receives itself."""

    def __init__(self, port: int | Path, *, receive_buffer: int = 0) -> None:
        """Connect to a port of this machine, or to a unix socket, whose buffers are small and do not grow."""
        self._socket = socket.socket(socket.AF_UNIX if isinstance(port, Path) else socket.AF_INET)
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect(str(port) if isinstance(port, Path) else ("127.0.0.1", port))
        self.segments: list[int] = []  # bytes of each read
        if not isinstance(port, Path):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.head = b""

    def __enter__(self) -> "RawSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection with a reset, without a close frame."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self._socket.close()

    def send(self, *parts: bytes) -> None:
        """Send each part as a segment of its own, as far as the kernel allows. A closed connection is no error."""
        for part in parts:
            try:
                self._socket.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                return

    def request(self, path: str = "/", *headers: str, chop: int = 0, tail: bytes = b"") -> int:
        """Send an opening handshake and return the status of the response.

        `chop` is the number of bytes in each segment (0: all in one), `tail` is sent right behind the handshake.
        """
        given = headers or HEADERS
        data = "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *given, "", ""]).encode() + tail
        self.send(*(chopped(data, chop) if chop else [data]))
        return self.status()

    def status(self) -> int:
        while b"\r\n\r\n" not in self._buffer:
            more = self._socket.recv(65536)
            assert more, f"closed without an answer: {self._buffer!r}"
            self._buffer += more
        self.head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return int(self.head.split()[1])

    def header(self, name: str) -> str | None:
        for line in self.head.decode().split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    def receive(self) -> Frame | None:
        """Return the next frame, and None at the end of the connection."""
        while (found := self._parse()) is None:
            try:
                more = self._socket.recv(262_144)
            except ConnectionResetError:
                raise AssertionError("reset instead of closed") from None
            self.segments.append(len(more))
            if not more:
                assert not self._buffer, f"a part of a frame at the end: {self._buffer[:50]!r}"
                return None
            self._buffer += more
        return found

    def receive_all(self) -> list[Frame]:
        """Return all frames until the server has closed the connection."""
        found = []
        while (one := self.receive()) is not None:
            found.append(one)
        return found

    def _parse(self) -> Frame | None:
        data = self._buffer
        if len(data) < 2:
            return None
        assert not data[1] & 0x80, "a server's frame must not be masked"
        length, start = data[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(data) < start:
                return None
            length = int.from_bytes(data[2:start])
            assert length > (125 if start == 4 else 65535), "the length is not as short as can be"
        if len(data) < start + length:
            return None
        self._buffer = data[start + length :]
        return Frame(data[0] & 0x0F, data[start : start + length], bool(data[0] & 0x80), data[0] >> 4 & 7)


def key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


HEADERS = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The response to the key above (RFC 6455, section 1.3)."""


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "no server"
            time.sleep(0.02)
        else:
            return
