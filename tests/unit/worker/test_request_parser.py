"""The request that opens a WebSocket, in pieces of any size."""

import httptools
import pytest

from wsd.worker.server.request_parser import RequestParser
from wsd.worker.wire.handshake import Request

HEAD = (
    b"GET /ws?user_id=a HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"X-Twice: 1\r\nx-twice: 2\r\n\r\n"
)
REQUEST = Request(
    b"GET",
    b"/ws?user_id=a",
    "1.1",
    [
        (b"host", b"example.com"),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
    ],
)


def test_a_request_in_one_piece_is_parsed_and_nothing_is_behind_it() -> None:
    parser = RequestParser()
    assert parser.feed(HEAD) == (REQUEST, b"")
    assert parser.bytes == 0


def test_bytes_behind_the_request_are_returned_as_they_are() -> None:
    assert RequestParser().feed(HEAD + b"\x81\x80abcd") == (REQUEST, b"\x81\x80abcd")


@pytest.mark.parametrize("size", [1, 7, len(HEAD) - 1])
def test_a_request_in_pieces_is_counted_until_it_is_complete(size: int) -> None:
    parser = RequestParser()
    pieces = [HEAD[at : at + size] for at in range(0, len(HEAD), size)]
    for number, piece in enumerate(pieces[:-1], 1):
        assert parser.feed(piece) is None
        assert parser.bytes == number * size
    assert parser.feed(pieces[-1]) == (REQUEST, b"")


def test_a_request_without_an_upgrade_is_complete_too() -> None:
    assert RequestParser().feed(b"POST / HTTP/1.0\r\n\r\n") == (Request(b"POST", b"/", "1.0", []), b"")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"])
def test_anything_but_http_raises(data: bytes) -> None:
    with pytest.raises(httptools.HttpParserError):
        RequestParser().feed(data)
