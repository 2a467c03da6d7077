"""How each server wants to be spoken to: the same three things (join, publish, echo) in its own words."""

from collections.abc import Callable
from dataclasses import dataclass

MASK = b"\x00\x00\x00\x00"
"""A mask that changes nothing is a mask, too; servers apply it all the same."""


def frame(payload: bytes) -> bytes:
    """A text frame of a client (RFC 6455, 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((0x81, 0x80 | length)) + MASK + payload
    return b"\x81\xfe" + length.to_bytes(2) + MASK + payload


@dataclass(frozen=True)
class Dialect:
    """`mark` is what a delivery begins with, `joined` the answer to a join; empty where there is none."""

    path: Callable[[int], str]
    join: Callable[[str], bytes]
    publish: Callable[[str, str], bytes]
    echo: Callable[[str], bytes]
    mark: bytes
    joined: bytes
    echoed: bytes
    greeting: tuple[bytes, ...] = ()  # what the server says before anything else
    hello: bytes = b""  # what a client answers to the first of it


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
