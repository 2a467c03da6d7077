"""The part of RFC 6455 that a benchmark client needs: frames of a client, and the frames of wsd's workers.

The supervisor may not import the worker's codec (`wsd.worker.wire.frames`). That codec would also cost more, because it
unmasks, decompresses, joins fragments and checks for violations; thousands of these clients run in one process.
"""

import struct
from collections.abc import Iterator

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FIN = 0x80

NO_MASK = b"\x00\x00\x00\x00"
"""A masking key (section 5.3) that leaves the payload unchanged.

Masking protects intermediaries that mistake frames for HTTP. There are none between these clients and the cluster.
"""


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Encode an unfragmented frame, with the masking key that a client's frame must have."""
    length = len(payload)
    if length <= 125:
        head = bytes((FIN | opcode, FIN | length))
    elif length <= 0xFFFF:
        head = struct.pack("!BBH", FIN | opcode, FIN | 126, length)
    else:
        head = struct.pack("!BBQ", FIN | opcode, FIN | 127, length)
    return head + NO_MASK + payload


class ServerFrames:
    """A decoder of a server's frames. They are not masked, and wsd does not fragment them."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add received bytes, and yield opcode and payload of each frame that is complete now."""
        if self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        while end - start >= 2:
            length, head = data[start + 1], 2
            if length == 126:
                head = 4
            elif length == 127:
                head = 10
            if end - start < head:
                break
            if head > 2:
                length = int.from_bytes(data[start + 2 : start + head])
            if end - start < head + length:
                break
            yield data[start] & 0x0F, data[start + head : start + head + length]
            start += head + length
        self._rest = data[start:]


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return the code and the reason of a close frame (section 5.5.1), 1005 and an empty reason if it has none."""
    return (int.from_bytes(payload[:2]), payload[2:].decode(errors="replace")) if len(payload) >= 2 else (1005, "")
