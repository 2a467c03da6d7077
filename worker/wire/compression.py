"""Compression of single messages (permessage-deflate, RFC 7692). No I/O.

Context takeover is never negotiated, in either direction. So a message is deflated once for all receivers, and an idle
connection holds no window, which takes 32 KB and more.
"""

import zlib
from collections.abc import Iterable

PERMESSAGE_DEFLATE = "permessage-deflate"
LEVEL = 1
"""Text becomes nearly as small as with level 6, in half the time."""

TAIL = b"\x00\x00\xff\xff"
"""The end of an empty block, which is not sent (RFC 7692, 7.2.1)."""


def negotiate(offers: Iterable[str]) -> tuple[str, int] | None:
    """Accept the first offer that can be met. Return the answer's header value and the window to deflate with.

    `offers` are values of Sec-WebSocket-Extensions. A window of n stands for 2^n bytes. Return None if no offer can be
    met.
    """
    for offer in ",".join(offers).split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name != PERMESSAGE_DEFLATE:
            continue
        bits = _window_bits(parameters)
        if bits is not None:
            answer = f"{PERMESSAGE_DEFLATE}; server_no_context_takeover; client_no_context_takeover"
            return (f"{answer}; server_max_window_bits={bits}" if bits < 15 else answer), bits
    return None


def _window_bits(parameters: Iterable[str]) -> int | None:
    """Return the window that an offer asks the server to use, or None if the offer must be declined (7.1)."""
    found: dict[str, str | None] = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if name in found:
            return None
        found[name.strip()] = value.strip().strip('"') if equals else None
    bits = 15
    for name, given in found.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if given is not None:
                return None
        elif name == "server_max_window_bits":
            if given not in WINDOW_BITS:
                return None
            bits = int(given)
        elif name == "client_max_window_bits":
            if given is not None and given not in WINDOW_BITS:
                return None
        else:
            return None
    # The smallest raw window of zlib is 2^9, so a window of 2^8 cannot be promised.
    return bits if bits > 8 else None


WINDOW_BITS = tuple(str(bits) for bits in range(8, 16))


def deflate(payload: bytes, window_bits: int = 15) -> bytes:
    """Deflate one message, with a window of 2^`window_bits` bytes."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


class Inflater:
    """Inflates one message."""

    __slots__ = ("_decompressor",)

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(-15)

    def __call__(self, chunk: bytes, limit: int, *, last: bool) -> bytes:
        """Inflate a part of the message. At most `limit` + 1 bytes are returned, so a small message cannot fill memory.

        Raises zlib.error for data that is not deflated.
        """
        return self._decompressor.decompress(chunk + TAIL if last else chunk, limit + 1)
