"""The opening handshake (RFC 6455, 4.2): which requests may become a WebSocket, and the answers. No I/O."""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSION = b"13"

Headers = list[tuple[bytes, bytes]]
"""Header names and values. Names are in lower case, as ASGI requires."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an HTTP request."""

    method: bytes
    target: bytes  # path and query
    http_version: str
    headers: Headers

    def values(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def tokens(self, name: bytes) -> list[str]:
        """Return the elements of a header that is a comma-separated list (RFC 9110, 5.6.1)."""
        return [token for value in self.values(name) for token in map(str.strip, value.split(",")) if token]


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a request that will not become a WebSocket."""

    status: int
    reason: str
    headers: Headers


def accept_key(request: Request) -> bytes | Refused:
    """Check a request (4.2.1). Return the value of Sec-WebSocket-Accept, or why the request is refused."""
    if request.method != b"GET":
        return Refused(405, "a WebSocket begins with GET", [(b"allow", b"GET")])
    if request.http_version != "1.1":
        return Refused(400, f"a WebSocket needs HTTP/1.1, not {request.http_version}", [])
    if [token.lower() for token in request.tokens(b"upgrade")] != ["websocket"]:
        return Refused(426, "only a WebSocket is spoken here", [(b"upgrade", b"websocket")])
    if "upgrade" not in (token.lower() for token in request.tokens(b"connection")):
        return Refused(400, "the Connection header must say Upgrade", [])
    keys = request.values(b"sec-websocket-key")
    if not keys:
        return Refused(400, "missing Sec-WebSocket-Key header", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return Refused(400, "Sec-WebSocket-Key must be 16 bytes in base64, once", [])
    if request.values(b"sec-websocket-version") != [VERSION.decode()]:
        return Refused(426, "only version 13 is spoken here", [(b"sec-websocket-version", VERSION)])
    return base64.b64encode(hashlib.sha1(keys[0].encode() + GUID).digest())  # noqa: S324 - the protocol's own


def _is_key(value: str) -> bool:
    try:
        return len(base64.b64decode(value.encode(), validate=True)) == 16
    except (binascii.Error, UnicodeEncodeError):
        return False


BEGINNING = b"HTTP/1.1 "
"""The beginning of every answer.

A worker sends these bytes alone before it calls the application for a handshake. Once a proxy has them, it does not
retry the handshake with another worker if this one dies, since the application may have caused the death.
"""


def switching(accept: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode the answer 101, after which frames follow.

    Raises RuntimeError for an invalid header name or value.
    """
    head = b"101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    return b"".join([BEGINNING, head, accept, b"\r\n", *_lines(headers), b"\r\n"])


def response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Encode any other answer, after which the connection ends.

    Raises RuntimeError for a status that HTTP does not have, and for an invalid header name or value.
    """
    if not 100 <= status < 600:
        raise RuntimeError(f"Invalid HTTP status code '{status}' in response.")
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    defaults = {b"content-type": b"text/plain; charset=utf-8", b"content-length": b"%d" % len(body)}
    given += [(name, value) for name, value in defaults.items() if name not in names]
    if b"connection" not in names:
        given.append((b"connection", b"close"))
    return b"".join([BEGINNING, f"{status} {phrase}\r\n".encode(), *_lines(given), b"\r\n", body])


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Encode headers.

    Raises RuntimeError, as uvicorn does, for an invalid name or value: a line break would begin another header.
    """
    lines = []
    for name, value in headers:
        if not name or HEADER_RE.search(name):
            raise RuntimeError(f"Invalid HTTP header name {name!r}.")
        if HEADER_VALUE_RE.search(value):
            raise RuntimeError(f"Invalid HTTP header value of {name!r}.")
        lines.append(b"%s: %s\r\n" % (name, value))
    return lines
