"""Compression of single messages (RFC 7692): what is negotiated, deflated and inflated. Pure.

Always without context takeover, both ways: then a message is deflated once for all who get it, and an idle connection
holds no window (32 KB and more each).
"""

import zlib
from collections.abc import Iterable

PERMESSAGE_DEFLATE = "permessage-deflate"
LEVEL = 1
"""Text shrinks nearly as far as with 6, for half of the time."""

TAIL = b"\x00\x00\xff\xff"
"""What an empty block ends with; it is not sent (7.2.1)."""


def negotiate(offers: Iterable[str]) -> tuple[str, int] | None:
    """The answer to the first offer that can be met, and the window (as a power of 2) to deflate with; else None.

    `offers`: values of Sec-WebSocket-Extensions.
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
    """What an offer asks of the server's window, or None for one to decline (7.1)."""
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
    # zlib's smallest raw window is 2^9; 2^8 would be promised and not kept.
    return bits if bits > 8 else None


WINDOW_BITS = tuple(str(bits) for bits in range(8, 16))


def deflate(payload: bytes, window_bits: int = 15) -> bytes:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -window_bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


class Inflater:
    """Of one message."""

    __slots__ = ("_decompressor",)

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(-15)

    def __call__(self, chunk: bytes, limit: int, *, last: bool) -> bytes:
        """What a part of the message inflates to; more than `limit` bytes are cut off after the next one, so that a
        small message cannot fill the memory. Raises zlib.error."""
        return self._decompressor.decompress(chunk + TAIL if last else chunk, limit + 1)
