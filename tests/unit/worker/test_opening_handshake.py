"""The opening handshake of one connection, from the bytes of the request to the bytes of the answer."""

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from wsd.worker.server.opening_handshake import MAX_EARLY_BYTES, OpeningHandshake
from wsd.worker.server.request_parser import MAX_HEAD_BYTES, TOO_LARGE
from wsd.worker.server.server_context import ServerContext
from wsd.worker.wire.handshake import BEGINNING, Refused, Request

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to the key of the example in RFC 6455, 1.3."""

HEAD = (
    b"GET /a%20b?user_id=a HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 5000)})
        self.written = b""
        self.paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.paused = True


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotImplementedError


def opening(*, announces: bool = False, compression: bool = False) -> tuple[OpeningHandshake, Wire]:
    config = Config(application, interface="asgi3", root_path="/root", ws_per_message_deflate=compression)
    state = ServerState()
    state.default_headers = [(b"server", b"wsd")]
    wire = Wire()
    return OpeningHandshake(ServerContext(config, state, {"kept": 1}), wire, announces=announces), wire


def begun(*, announces: bool = False, compression: bool = False) -> tuple[OpeningHandshake, Wire]:
    handshake, wire = opening(announces=announces, compression=compression)
    assert isinstance(handshake.begin(read(handshake), b""), dict)
    return handshake, wire


def read(handshake: OpeningHandshake, head: bytes = HEAD) -> Request:
    found = handshake.feed(head)
    assert isinstance(found, tuple)
    return found[0]


def test_a_request_is_read_in_pieces_and_becomes_a_scope() -> None:
    handshake, wire = opening()
    assert handshake.feed(HEAD[:50]) is None
    found = handshake.feed(HEAD[50:] + b"frame")
    assert isinstance(found, tuple)
    was_read = handshake.is_read
    scope = handshake.begin(*found)
    assert not was_read
    assert handshake.is_read
    assert handshake.early == b"frame"
    assert wire.written == b""
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 5000),
        "root_path": "/root",
        "path": "/root/a b",
        "raw_path": b"/root/a%20b",
        "query_string": b"user_id=a",
        "headers": found[0].headers,
        "subprotocols": ["chat", "superchat"],
        "state": {"kept": 1},
        "extensions": {"websocket.http.response": {}},
    }


def test_bytes_that_are_no_http_are_refused() -> None:
    assert opening()[0].feed(b"\x16\x03\x01") == Refused(400, "Invalid HTTP request received.", [])


def test_a_head_that_never_ends_is_refused() -> None:
    handshake, _ = opening()
    assert handshake.feed(HEAD[:-2]) is None
    assert handshake.feed(b"a: " + b"b" * (MAX_HEAD_BYTES - len(HEAD) - 1)) is None
    assert handshake.feed(b"b") == Refused(431, TOO_LARGE, [])


def test_a_request_that_asks_for_no_websocket_is_refused_and_nothing_is_announced() -> None:
    handshake, wire = opening(announces=True)
    answer = handshake.begin(read(handshake, HEAD.replace(b"Version: 13", b"Version: 8")), b"")
    assert answer == Refused(426, "only version 13 is spoken here", [(b"sec-websocket-version", b"13")])
    assert wire.written == b""
    handshake.refuse(426, [], b"")
    assert wire.written.startswith(b"HTTP/1.1 426 ")


def test_an_accepted_handshake_is_answered_with_the_headers_of_server_and_application() -> None:
    handshake, wire = begun()
    assert handshake.accept([(b"x-a", b"1")], "chat") == 0
    assert wire.written == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nserver: wsd\r\nx-a: 1\r\nsec-websocket-protocol: chat\r\n\r\n"
    )


def test_compression_is_negotiated_where_it_is_on() -> None:
    handshake, wire = begun(compression=True)
    assert handshake.accept([], None) == 15
    assert b"\r\nsec-websocket-extensions: permessage-deflate;" in wire.written


@pytest.mark.parametrize("refused", [False, True])
def test_an_announced_answer_has_its_beginning_once(refused: bool) -> None:
    handshake, wire = begun(announces=True)
    assert wire.written == BEGINNING
    if refused:
        handshake.refuse(403, [], b"no")
    else:
        handshake.accept([], None)
    assert wire.written.count(BEGINNING) == 1
    assert wire.written.startswith(
        b"HTTP/1.1 403 Forbidden\r\n" if refused else b"HTTP/1.1 101 Switching Protocols\r\n"
    )


@pytest.mark.parametrize("header", [(b"a b", b"1"), (b"a", b"1\r\nb: 2"), (b"", b"1")])
def test_headers_that_http_cannot_carry_write_nothing_and_leave_the_handshake_open(header: tuple[bytes, bytes]) -> None:
    handshake, wire = begun()
    with pytest.raises(RuntimeError):
        handshake.accept([header], None)
    with pytest.raises(RuntimeError):
        handshake.refuse(403, [header], b"")
    assert wire.written == b""
    handshake.accept([], None)
    assert wire.written.startswith(b"HTTP/1.1 101 ")


def test_a_client_that_sends_much_before_the_answer_is_not_read_any_further() -> None:
    handshake, wire = begun()
    assert handshake.keep(b"a" * MAX_EARLY_BYTES) == MAX_EARLY_BYTES
    was_paused = wire.paused
    assert handshake.keep(b"b") == MAX_EARLY_BYTES + 1
    assert not was_paused
    assert wire.paused
    assert handshake.early == b"a" * MAX_EARLY_BYTES + b"b"
