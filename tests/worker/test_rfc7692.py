"""Compressed messages (RFC 7692), frame by frame: always without context takeover, and only where that was agreed."""

import os
from collections.abc import Iterator

import pytest

from tests.support.raw_websocket import (
    BINARY,
    CLOSE,
    HEADERS,
    PING,
    TEXT,
    Frame,
    RawSocket,
    close,
    deflated,
    frame,
    inflated,
)
from tests.support.websocket_server import Server, serving

RSV1 = 4
EXTENSIONS = "Sec-WebSocket-Extensions"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MAX_SIZE = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rfc7692"), "--deflate", "--max-size", str(MAX_SIZE)) as running:
        yield running


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[RawSocket]:
    with server.connected("/", *HEADERS, f"{EXTENSIONS}: permessage-deflate") as connected:
        assert connected.header(EXTENSIONS) == AGREED
        yield connected


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        ("permessage-deflate; client_max_window_bits=10", AGREED),
        ("permessage-deflate; server_no_context_takeover", AGREED),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", AGREED),
        ("permessage-deflate; server_max_window_bits=15", AGREED),
        ("permessage-deflate; server_max_window_bits=9", AGREED + "; server_max_window_bits=9"),
        ('permessage-deflate; server_max_window_bits="12"', AGREED + "; server_max_window_bits=12"),
        ("x-unknown, permessage-deflate; server_max_window_bits=8, permessage-deflate", AGREED),
        ("permessage-deflate; unknown=1, permessage-deflate", AGREED),
        ("x-unknown", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
    ],
)
def test_an_offer_is_accepted_only_if_it_can_be_met(server: Server, offer: str, answer: str | None) -> None:
    with server.connected("/", *HEADERS, f"{EXTENSIONS}: {offer}") as client:
        assert client.header(EXTENSIONS) == answer


def test_a_client_without_the_extension_gets_no_compression(plain_server: Server) -> None:
    with plain_server.connected("/", *HEADERS, f"{EXTENSIONS}: permessage-deflate") as client:
        assert client.header(EXTENSIONS) is None
        client.send(frame(TEXT, deflated(b"x"), rsv=RSV1))
        assert [int.from_bytes(each.payload[:2]) for each in client.receive_all()] == [1002]


@pytest.mark.parametrize("size", [0, 1, 16, 255, 256, 1000, 4096, 65_536, 131_072])
@pytest.mark.parametrize("kind", ["text", "binary", "noise"])
def test_a_compressed_message_comes_back(client: RawSocket, size: int, kind: str) -> None:
    opcode = TEXT if kind == "text" else BINARY
    payload = os.urandom(size) if kind == "noise" else b"0123456789abcdef" * (size // 16) + b"x" * (size % 16)
    for _ in range(3):
        client.send(frame(opcode, deflated(payload), rsv=RSV1))
        found = client.receive()
        assert found is not None
        assert found.opcode == opcode
        assert found.rsv == (RSV1 if size >= 256 else 0)
        assert (inflated(found.payload) if found.rsv else found.payload) == payload


@pytest.mark.parametrize("bits", [9, 11, 15])
def test_the_compression_window_is_as_agreed(server: Server, bits: int) -> None:
    offer = f"{EXTENSIONS}: permessage-deflate; server_max_window_bits={bits}"
    with server.connected("/", *HEADERS, offer) as client:
        half = os.urandom(2000)
        client.send(frame(BINARY, half + half))
        found = client.receive()
        assert found is not None
        assert inflated(found.payload, bits) == half + half


def test_a_compressed_message_may_come_in_fragments(client: RawSocket) -> None:
    payload = b"in fragments " * 1000
    data = deflated(payload)
    third = len(data) // 3
    client.send(
        frame(TEXT, data[:third], rsv=RSV1, fin=False),
        frame(PING, b"between"),
        frame(0, data[third : 2 * third], fin=False),
        frame(0, data[2 * third :]),
    )
    assert client.receive() == Frame(10, b"between")
    found = client.receive()
    assert found is not None
    assert inflated(found.payload) == payload


def test_a_client_may_send_an_uncompressed_message(client: RawSocket) -> None:
    client.send(frame(TEXT, b"plain"))
    assert client.receive() == Frame(TEXT, b"plain")


def test_stored_blocks_are_blocks(client: RawSocket) -> None:
    client.send(frame(TEXT, b"\x00\x05\x00\xfa\xff" + b"Hello" + b"\x00", rsv=RSV1))
    assert client.receive() == Frame(TEXT, b"Hello")


@pytest.mark.parametrize(
    ("pieces", "codes"),
    [
        pytest.param([frame(BINARY, b"\xff\xff\xff\xff", rsv=RSV1)], {1002, 1007}, id="no deflate"),
        pytest.param([frame(TEXT, deflated(b"\xff\xfe"), rsv=RSV1)], {1007}, id="no UTF-8"),
        pytest.param([frame(PING, b"x", rsv=RSV1)], {1002}, id="a compressed ping"),
        pytest.param([frame(CLOSE, b"\x03\xe8", rsv=RSV1)], {1002}, id="a compressed close"),
        pytest.param([frame(TEXT, b"x", fin=False), frame(0, deflated(b"x"), rsv=RSV1)], {1002}, id="continuation"),
        pytest.param([frame(TEXT, b"x", rsv=2)], {1002}, id="RSV2"),
        pytest.param([frame(BINARY, deflated(bytes(50_000_000)), rsv=RSV1)], {1009}, id="a bomb"),
        pytest.param([frame(BINARY, deflated(bytes(MAX_SIZE + 1)), rsv=RSV1)], {1009}, id="one too many"),
    ],
)
def test_wrong_compressed_frames_are_refused(server: Server, pieces: list[bytes], codes: set[int]) -> None:
    with server.connected("/", *HEADERS, f"{EXTENSIONS}: permessage-deflate") as client:
        client.send(*pieces)
        found = client.receive_all()
    assert len(found) == 1
    assert int.from_bytes(found[0].payload[:2]) in codes
    assert "Traceback" not in server.log.read_text()


def test_the_largest_message_is_as_large_as_without(client: RawSocket) -> None:
    client.send(frame(BINARY, deflated(bytes(MAX_SIZE)), rsv=RSV1), close(1000))
    found = client.receive_all()
    assert len(inflated(found[0].payload)) == MAX_SIZE
    assert found[1].opcode == CLOSE
