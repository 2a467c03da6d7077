"""The protocol of each server: how a client joins a channel, publishes, and asks for an echo."""

from collections.abc import Callable
from dataclasses import dataclass

MASK = b"\x00\x00\x00\x00"
"""A masking key that changes nothing. Servers apply it like any other."""


def frame(payload: bytes) -> bytes:
    """Encode a text frame of a client (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, 0x80 | length)) + MASK + payload
    return b"\x81\xfe" + length.to_bytes(2) + MASK + payload


@dataclass(frozen=True)
class Dialect:
    """The messages that clients of a server send, and how the messages of the server begin.

    `mark` begins a delivery, `joined` the answer to a join (empty: there is none), `echoed` an echo.
    """

    path: Callable[[int], str]
    join: Callable[[str], bytes]
    publish: Callable[[str, str], bytes]
    echo: Callable[[str], bytes]
    mark: bytes
    joined: bytes
    echoed: bytes
    greeting: tuple[bytes, ...] = ()  # what the server sends first
    hello: bytes = b""  # the client's answer to the first greeting


PLAIN = Dialect(
    path=lambda number: "/",
    join=lambda channel: frame(f"+{channel}".encode()),
    publish=lambda channel, text: frame(f"{channel} {text}".encode()),
    echo=lambda text: frame(f"={text}".encode()),
    mark=b"c",
    joined=b"+",
    echoed=b"=",
)

NCHAN = Dialect(
    path=lambda number: "/",
    join=lambda channel: b"",
    publish=lambda channel, text: frame(f"{channel} {text}".encode()),
    echo=lambda text: b"",
    mark=b"c",
    joined=b"",
    echoed=b"",
)

SOCKET_IO = Dialect(
    path=lambda number: "/socket.io/?EIO=4&transport=websocket",
    join=lambda channel: frame(f'42["join","{channel}"]'.encode()),
    publish=lambda channel, text: frame(f'42["say","{channel}","{text}"]'.encode()),
    echo=lambda text: frame(f'42["echo","{text}"]'.encode()),
    mark=b'42["m"',
    joined=b'42["joined"',
    echoed=b'42["m"',
    greeting=(b"0{", b"40"),
    hello=frame(b"40"),
)

WSD = Dialect(
    path=lambda number: f"/ws?user_id=user-{number}",
    join=lambda channel: frame(f'{{"type":"subscribe","channel":"{channel}"}}'.encode()),
    publish=lambda channel, text: frame(f'{{"type":"publish","channel":"{channel}","data":"{text}"}}'.encode()),
    echo=lambda text: frame(f'{{"type":"ping","id":"{text}"}}'.encode()),
    mark=b'{"type":"message"',
    joined=b'{"type":"subscribed"',
    echoed=b'{"type":"pong"',
    greeting=(b'{"type":"welcome"',),
)
