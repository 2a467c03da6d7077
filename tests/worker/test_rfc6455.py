"""The WebSocket protocol, frame by frame (RFC 6455): what the Autobahn suite asks, strictly, and what it does not."""

import itertools
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.apps.websocket_apps import UNACCEPTABLE, UNSENDABLE
from tests.support.raw_websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    HEADERS,
    PING,
    PONG,
    TEXT,
    Frame,
    RawSocket,
    chopped,
    close,
    fragments,
    frame,
)
from tests.support.server import get
from tests.support.waiting import until
from tests.support.websocket_server import Server, serving

MAX_SIZE = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("rfc6455"), "--max-size", str(MAX_SIZE)) as running:
        yield running


class Case(NamedTuple):
    """Bytes to send, in pieces, and what must come back: echoes, then a close frame with the code."""

    name: str
    pieces: Sequence[bytes]
    echoes: Sequence[Frame] = ()
    code: int = 1000


def text(payload: bytes | str) -> Frame:
    return Frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def binary(payload: bytes) -> Frame:
    return Frame(BINARY, payload)


def pong(payload: bytes = b"") -> Frame:
    return Frame(PONG, payload)


def both_ways(name: str, data: bytes, echoes: Sequence[Frame] = (), code: int = 1000) -> Iterator[Case]:
    """Yield a case that sends the data in one piece, and one that sends it octet by octet."""
    yield Case(name, [data], echoes, code)
    yield Case(f"{name}-chopped", chopped(data, 1), echoes, code)


def framing() -> Iterator[Case]:
    for opcode, make in ((TEXT, text), (BINARY, binary)):
        kind = "text" if opcode == TEXT else "binary"
        for length in (0, 1, 125, 126, 127, 128, 65535, 65536):
            payload = b"*" * length
            yield Case(f"1-{kind}-{length}", [frame(opcode, payload)], [make(payload)])
        payload = b"*" * 65536
        yield Case(f"1-{kind}-65536-by-997", chopped(frame(opcode, payload), 997), [make(payload)])
    yield Case("1-not-utf8-binary", [frame(BINARY, b"\xff\xfe")], [binary(b"\xff\xfe")])
    yield Case("1-mask-of-zeros", [frame(TEXT, b"plain", mask=b"\0\0\0\0")], [text("plain")])
    yield Case(
        "1-many-in-one", [b"".join(frame(TEXT, b"%d" % n) for n in range(50))], [text(str(n)) for n in range(50)]
    )
    yield from both_ways("1-not-masked", frame(TEXT, b"x", mask=None), code=1002)
    yield from both_ways("1-not-masked-after-one", frame(TEXT, b"x") + frame(PING, b"", mask=None), [text("x")], 1002)
    yield from both_ways("1-length-in-2-bytes-for-1", frame(TEXT, b"x", length_bytes=2), code=1002)
    yield from both_ways("1-length-in-8-bytes-for-1", frame(TEXT, b"x", length_bytes=8), code=1002)
    yield from both_ways("1-length-in-8-bytes-for-2", frame(TEXT, b"x" * 200, length_bytes=8), code=1002)
    yield Case("1-length-with-the-top-bit", [b"\x81\xff\x80" + b"\0" * 7], code=1002)


def pings() -> Iterator[Case]:
    for name, payload in (("empty", b""), ("text", b"Hello"), ("binary", b"\x00\xff\xfe\xfd"), ("125", b"\xfe" * 125)):
        yield from both_ways(f"2-ping-{name}", frame(PING, payload), [pong(payload)])
    yield from both_ways("2-ping-126", frame(PING, b"x" * 126), code=1002)
    yield from both_ways("2-pong-126", frame(PONG, b"x" * 126), code=1002)
    for payload in (b"", b"unasked"):
        yield Case(f"2-pong-{len(payload)}-unasked", [frame(PONG, payload) + frame(PING, b"p")], [pong(b"p")])
    ten = [b"payload-%d" % n for n in range(10)]
    yield from both_ways("2-ten-pings", b"".join(frame(PING, p) for p in ten), [pong(p) for p in ten])


def reserved() -> Iterator[Case]:
    for rsv, (name, opcode) in itertools.product(
        range(1, 8), (("text", TEXT), ("binary", BINARY), ("ping", PING), ("pong", PONG), ("close", CLOSE))
    ):
        payload = (1000).to_bytes(2) if opcode == CLOSE else b"x"
        yield Case(f"3-rsv-{rsv}-{name}", [frame(opcode, payload, rsv=rsv)], code=1002)
    yield from both_ways("3-rsv-after-one", frame(TEXT, b"ok") + frame(TEXT, b"x", rsv=4), [text("ok")], 1002)
    yield Case("3-rsv-in-a-continuation", [frame(TEXT, b"a", fin=False), frame(0, b"b", rsv=4)], code=1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"4-opcode-{opcode}", [frame(opcode)], code=1002)
        yield from both_ways(
            f"4-opcode-{opcode}-after-one", frame(TEXT, b"ok") + frame(opcode, b"x"), [text("ok")], 1002
        )


def fragmentation() -> Iterator[Case]:
    one, two = frame(TEXT, b"frag1", fin=False), frame(0, b"frag2")
    whole = text("frag1frag2")
    ping = frame(PING, b"mid")
    yield Case("5-1-ping-in-fragments", [frame(PING, b"a", fin=False) + frame(0, b"b")], code=1002)
    yield Case("5-2-pong-in-fragments", [frame(PONG, b"a", fin=False) + frame(0, b"b")], code=1002)
    yield Case("5-2-close-in-fragments", [frame(CLOSE, b"\x03\xe8", fin=False)], code=1002)
    yield Case("5-3-two", [one, two], [whole])
    yield from both_ways("5-4-two-at-once", one + two, [whole])
    yield Case("5-6-ping-between", [one, ping, two], [pong(b"mid"), whole])
    yield from both_ways("5-7-ping-between-at-once", one + ping + two, [pong(b"mid"), whole])
    for fin in (True, False):
        stray = frame(0, b"stray", fin=fin)
        yield from both_ways(f"5-9-continuation-of-nothing-{fin}", stray + frame(TEXT, b"x"), code=1002)
        yield Case(f"5-12-continuation-after-one-{fin}", [frame(TEXT, b"ok") + stray], [text("ok")], 1002)
        after = frame(TEXT, b"x", fin=fin)
        yield Case(f"5-18-a-message-within-a-message-{fin}", [one, after, two], code=1002)
    yield Case("5-15-after-a-whole-one", [one + two + frame(0, b"x", fin=False) + frame(TEXT, b"y")], [whole], 1002)
    many = [b"f%d" % n for n in range(5)]
    frames = fragments(TEXT, many)
    yield Case(
        "5-19-pings-between",
        [*frames[:2], frame(PING, b"one"), *frames[2:4], frame(PING, b"two"), frames[4]],
        [pong(b"one"), pong(b"two"), text(b"".join(many))],
    )
    yield Case("5-empty-fragments", fragments(TEXT, [b"", b"", b"x", b""]), [text("x")])
    yield Case("5-all-empty", fragments(BINARY, [b"", b"", b""]), [binary(b"")])
    yield from both_ways(
        "5-binary", b"".join(fragments(BINARY, [b"\xff", b"\x00", b"\x80"])), [binary(b"\xff\x00\x80")]
    )


VALID_UTF8 = {
    "greek": "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    "kosme": "κόσμε".encode(),
    "smallest-of-each-length": "\x00\x80ࠀ\U00010000".encode(),
    "largest-of-each-length": "\x7f߿￿\U0010ffff".encode(),
    "around-surrogates": "퟿�".encode(),
    "non-characters": "￾￿﷐\U0001fffe\U0010ffff".encode(),
    "emoji": "👩‍👩‍👧".encode(),
}
INVALID_UTF8 = {
    "lone-continuation": b"\x80",
    "last-continuation": b"\xbf",
    "seven-continuations": b"\x80\xbf\x80\xbf\x80\xbf\x80",
    "lone-starts-of-two": b"\xc0 \xdf ",
    "lone-starts-of-three": b"\xe0 \xef ",
    "lone-starts-of-four": b"\xf0 \xf7 ",
    "starts-of-five": b"\xf8\x88\x80\x80\x80",
    "starts-of-six": b"\xfc\x84\x80\x80\x80\x80",
    "last-byte-missing-of-two": b"\xdf",
    "last-byte-missing-of-three": b"\xef\xbf",
    "last-byte-missing-of-four": b"\xf4\x8f\xbf",
    "concatenated-incomplete": b"\xc0\xe0\x80\xf0\x80\x80\xdf\xef\xbf\xf4\x8f\xbf",
    "fe": b"\xfe",
    "ff": b"\xff",
    "fe-fe-ff-ff": b"\xfe\xfe\xff\xff",
    "overlong-slash-of-two": b"\xc0\xaf",
    "overlong-slash-of-three": b"\xe0\x80\xaf",
    "overlong-slash-of-four": b"\xf0\x80\x80\xaf",
    "overlong-7f": b"\xc1\xbf",
    "overlong-7ff": b"\xe0\x9f\xbf",
    "overlong-ffff": b"\xf0\x8f\xbf\xbf",
    "overlong-null": b"\xc0\x80",
    "above-10ffff": b"\xf4\x90\x80\x80",
    "surrogate-first": b"\xed\xa0\x80",
    "surrogate-last": b"\xed\xbf\xbf",
    "surrogate-pair": b"\xed\xa0\x80\xed\xb0\x80",
    "in-the-middle": "κόσμε".encode() + b"\xed\xa0\x80edited",
}


def utf8() -> Iterator[Case]:
    for name, payload in VALID_UTF8.items():
        yield Case(f"6-valid-{name}", [frame(TEXT, payload)], [text(payload)])
        by_octet = fragments(TEXT, chopped(payload, 1))
        yield Case(f"6-valid-{name}-in-fragments-of-one", by_octet, [text(payload)])
        yield Case(f"6-valid-{name}-chopped", chopped(frame(TEXT, payload), 1), [text(payload)])
    for name, payload in INVALID_UTF8.items():
        yield from both_ways(f"6-invalid-{name}", frame(TEXT, payload), code=1007)
        yield Case(f"6-invalid-{name}-in-fragments", fragments(TEXT, chopped(payload, 1)), code=1007)
    start = "κόσμε".encode()
    # The rest of these messages never comes: they must fail where they cannot become valid any more.
    yield Case("6-4-fail-fast-in-a-fragment", [frame(TEXT, start + b"\xf4\x90", fin=False)], code=1007)
    yield Case(
        "6-4-fail-fast-in-the-second-fragment",
        [frame(TEXT, start + b"\xf4", fin=False), frame(0, b"\x90", fin=False)],
        code=1007,
    )
    unfinished = frame(TEXT, start + b"\xf4\x90\x80\x80" + b"x" * 500)
    yield Case("6-4-fail-fast-in-a-frame", [unfinished[:30]], code=1007)
    yield Case("6-4-fail-fast-in-a-frame-chopped", chopped(unfinished[:22], 1), code=1007)


def closing() -> Iterator[Case]:
    ok = frame(TEXT, b"ok")
    yield Case("7-1-a-message-then-close", [ok + close(1000)], [text("ok")])
    yield Case("7-1-two-closes", [close(1000) + close(1000)])
    yield Case("7-1-ping-after-close", [close(1000) + frame(PING)])
    yield Case("7-1-text-after-close", [close(1000) + ok])
    yield Case("7-1-close-within-a-message", [frame(TEXT, b"frag", fin=False) + close(1000) + frame(0, b"x")])
    yield Case("7-3-one-byte", [frame(CLOSE, b"\x03")], code=1002)
    yield Case("7-3-reason", [close(1000, b"good bye")])
    yield Case("7-3-longest-reason", [close(1000, b"*" * 123)])
    yield Case("7-3-too-long", [close(1000, b"*" * 124)], code=1002)
    yield Case("7-5-reason-not-utf8", [close(1000, b"\xce\xba\xed\xa0\x80")], code=1007)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999):
        yield Case(f"7-7-{code}", [close(code)], code=code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"7-9-{code}", [close(code)], code=1002)


def sizes() -> Iterator[Case]:
    for size in (64 * 1024, 1024 * 1024, 4 * 1024 * 1024):
        payload = b"*" * size
        yield Case(f"9-text-{size}", [frame(TEXT, payload)], [text(payload)])
        yield Case(f"9-binary-{size}", [frame(BINARY, payload)], [binary(payload)])
    payload = b"0123456789abcdef" * (64 * 1024)
    for part in (64 * 1024, 1024 * 1024):
        yield Case(f"9-fragments-of-{part}", fragments(TEXT, chopped(payload, part)), [text(payload)])
    small = payload[: 64 * 1024]
    yield Case("9-fragments-of-64", [b"".join(fragments(TEXT, chopped(small, 64)))], [text(small)])
    yield Case("9-chops-of-64", chopped(frame(TEXT, small), 64), [text(small)])
    yield Case("10-fragments-of-1300", fragments(TEXT, chopped(small, 1300)), [text(small)])


CASES = [*framing(), *pings(), *reserved(), *fragmentation(), *utf8(), *closing(), *sizes()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_of_frames_gets_the_required_answer(server: Server, case: Case) -> None:
    with server.connected() as client:
        client.send(*case.pieces)
        if case.code == 1000 and not case.name.startswith("7-"):
            client.send(close(1000))
        found = client.receive_all()
    assert found[:-1] == list(case.echoes)
    assert found[-1].opcode == CLOSE
    assert int.from_bytes(found[-1].payload[:2]) == case.code


def test_a_close_without_a_code_is_answered_alike(server: Server) -> None:
    with server.connected() as client:
        client.send(close())
        assert client.receive_all() == [Frame(CLOSE, b"")]


def test_no_case_left_a_traceback(server: Server) -> None:
    with server.connected() as client:
        client.send(frame(TEXT, b"\xff"))
        client.receive_all()
    assert "Traceback" not in server.log.read_text()


# Sizes beyond the limit


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("small"), "--max-size", "1000") as running:
        yield running


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([frame(TEXT, b"x" * 1001)], id="in one"),
        pytest.param([frame(TEXT, b"x" * 1001)[:8]], id="as announced, before it comes"),
        pytest.param([frame(BINARY, b"x" * 70_000)[:14]], id="announced in 8 bytes"),
        pytest.param(fragments(TEXT, [b"x" * 500] * 3), id="in fragments"),
        pytest.param([frame(TEXT, b"x" * 5_000_000)], id="while the client still sends"),
    ],
)
def test_a_message_over_the_limit_is_refused(small_server: Server, pieces: list[bytes]) -> None:
    with small_server.connected() as client:
        client.send(frame(TEXT, b"x" * 1000))
        assert client.receive() == text("x" * 1000)
        client.send(*pieces)
        found = client.receive_all()
    assert [int.from_bytes(each.payload[:2]) for each in found] == [1009]


# The handshake


@pytest.fixture(scope="module", params=["httptools", "h11"])
def other_http(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with uvicorn's own HTTP protocol before ours."""
    with serving(tmp_path_factory.mktemp("other"), "--http", request.param) as running:
        yield running


def without(name: str, *instead: str) -> list[str]:
    return [header for header in HEADERS if not header.startswith(name + ":")] + list(instead)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(400, without("Sec-WebSocket-Key"), id="no key"),
        pytest.param(400, without("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), id="short key"),
        pytest.param(400, without("Sec-WebSocket-Key", "Sec-WebSocket-Key: !!!!"), id="no base64"),
        pytest.param(400, [*HEADERS, HEADERS[-1]], id="two keys"),
        pytest.param(426, without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), id="version 8"),
        pytest.param(426, without("Sec-WebSocket-Version"), id="no version"),
    ],
)
def test_a_request_that_is_no_handshake_is_refused(server: Server, status: int, headers: list[str]) -> None:
    with RawSocket(server.port) as client:
        assert client.request("/", *headers) == status
        if status == 426:
            assert client.header("sec-websocket-version") == "13"


def test_a_handshake_without_offers_gets_the_accepted_key_alone(server: Server) -> None:
    with server.connected("/", *without("Connection", "Connection: keep-alive, UPGRADE")) as client:
        assert client.header("sec-websocket-accept") == ACCEPT
        assert client.header("sec-websocket-extensions") is None
        assert client.header("sec-websocket-protocol") is None


@pytest.mark.parametrize("request_line", ["POST / HTTP/1.1", "GET / HTTP/1.0"])
def test_another_method_or_version_does_not_open_a_websocket(server: Server, request_line: str) -> None:
    with RawSocket(server.port) as client:
        client.send("\r\n".join([request_line, "Host: test", "Content-Length: 0", *HEADERS, "", ""]).encode())
        assert client.status() != 101


def test_a_handshake_may_come_octet_by_octet_and_with_a_message_behind_it(server: Server) -> None:
    for chop in (0, 1):
        with RawSocket(server.port) as client:
            assert client.request(chop=chop, tail=frame(TEXT, b"early")) == 101
            assert client.receive() == text("early")


def test_subprotocols_are_the_applications_choice(server: Server) -> None:
    with server.connected("/", *HEADERS, "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Protocol: c") as client:
        assert client.header("sec-websocket-protocol") == "b"
    with server.connected("/subprotocols", *HEADERS, "Sec-WebSocket-Protocol: a, b") as client:
        assert client.header("x-offered") == "a,b"


def test_the_protocol_works_behind_the_http_protocol_of_uvicorn(other_http: Server) -> None:
    with other_http.connected() as client:
        assert client.header("sec-websocket-accept") == ACCEPT
        client.send(frame(TEXT, b"hello") + close(1000))
        assert client.receive_all() == [text("hello"), Frame(CLOSE, (1000).to_bytes(2))]
    with RawSocket(other_http.port) as client:
        assert client.request("/", *without("Sec-WebSocket-Key")) == 400


# What applications do


@pytest.mark.parametrize(("path", "code"), [("/returns", 1000), ("/raises", 1011)])
def test_an_application_that_ends_closes_its_connection(tmp_path: Path, path: str, code: int) -> None:
    with serving(tmp_path) as server:
        with server.connected(path) as client:
            first = client.receive()
            assert first == Frame(CLOSE, code.to_bytes(2))
            client.send(close(code))
            assert client.receive() is None
        assert server.log.read_text().count("Traceback") == (code == 1011)


def test_an_application_may_refuse(server: Server) -> None:
    with RawSocket(server.port) as client:
        assert client.request("/closes") == 403
    with RawSocket(server.port) as client:
        assert client.request("/answers") == 418
        assert client.header("x-pot") == "tea"
        assert client.header("content-length") == "15"


def test_an_application_that_raises_before_it_accepts_answers_500(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        with RawSocket(server.port) as client:
            assert client.request("/raises-before") == 500


def test_an_application_sends_at_the_pace_of_its_client(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connected("/floods") as client:
        first = client.receive()
        assert first is not None
        resident = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096
        assert resident < 100_000_000, "100 MB of messages must wait in the application, not in memory"
        for number in range(1, 10_000):
            found = client.receive()
            assert found is not None
            assert found.payload.startswith(b"%010d" % number)
        assert client.receive() == Frame(CLOSE, (3000).to_bytes(2))


def test_a_close_is_answered_though_the_application_does_not_listen(server: Server) -> None:
    with server.connected("/never-receives") as client:
        client.send(close(1001))
        assert client.receive_all() == [Frame(CLOSE, (1001).to_bytes(2))]


@pytest.fixture(scope="module")
def tolerant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for applications that raise, so that the log of the other one has no traceback."""
    with serving(tmp_path_factory.mktemp("tolerant")) as running:
        yield running


@pytest.mark.parametrize("what", UNSENDABLE)
def test_an_invalid_message_of_an_application_raises_in_the_application(tolerant: Server, what: str) -> None:
    with tolerant.connected(f"/unsendable?{what}") as client:
        assert client.receive() == Frame(CLOSE, (1011).to_bytes(2))
        client.send(close(1011))
        assert client.receive() is None
    with tolerant.connected(f"/unsendable-caught?{what}") as client:
        assert client.receive() == text("refused"), "and the connection is as it was"
        client.send(frame(TEXT, b"x"))
        assert client.receive() == Frame(CLOSE, (4999).to_bytes(2) + "\N{SNOWMAN}".encode() * 41)


@pytest.mark.parametrize("what", UNACCEPTABLE)
def test_an_invalid_answer_to_a_handshake_may_be_followed_by_a_valid_one(tolerant: Server, what: str) -> None:
    with RawSocket(tolerant.port) as client:
        assert client.request(f"/unacceptable?{what}") == 500
        assert client.header("x-evil") is None
    with tolerant.connected(f"/unacceptable-caught?{what}") as client:
        assert client.header("x-refused") == "yes"
        client.send(close(1000))
        assert client.receive_all() == [binary(b"abc")] * 3 + [Frame(CLOSE, (1000).to_bytes(2))]


def _goodbye(client: RawSocket) -> None:
    client.send(close(1001))
    client.receive_all()


def _violation(client: RawSocket) -> None:
    client.send(frame(3))
    client.receive_all()


def _not_utf8(client: RawSocket) -> None:
    client.send(frame(TEXT, b"\xff"))
    client.receive_all()


@pytest.mark.parametrize(
    ("end", "code"),
    [(_goodbye, 1001), (_violation, 1002), (_not_utf8, 1007), (RawSocket.reset, 1006), (RawSocket.close, 1006)],
    ids=["goodbye", "violation", "not-utf8", "reset", "eof"],
)
def test_the_application_learns_why_a_connection_ended(
    server: Server, end: Callable[[RawSocket], None], code: int, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    with server.connected(f"/?{name}") as client:
        client.send(frame(TEXT, b"x"))
        assert client.receive() == text("x")
        end(client)
    until(lambda: get(server.port, f"/end?name={name}")[2] == str(code).encode())


# Keepalive


@pytest.fixture(scope="module")
def pinging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("pinging"), "--ping-interval", "0.2") as running:
        yield running


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that waits for an answer longer than a busy machine keeps the test from answering."""
    options = ("--ping-interval", "0.2", "--ping-timeout", "1.5")  # the next ping comes after the timeout
    with serving(tmp_path_factory.mktemp("patient"), *options) as running:
        yield running


def test_a_client_that_does_not_answer_a_ping_is_closed(pinging: Server) -> None:
    with pinging.connected() as client:
        found = client.receive_all()
    assert [each.opcode for each in found] == [PING, CLOSE]
    assert int.from_bytes(found[-1].payload[:2]) == 1011


@pytest.mark.parametrize("answer", [frame(PONG, b"wsd"), frame(TEXT, b"I am here")], ids=["pong", "message"])
def test_a_client_that_answers_pings_stays(patient: Server, answer: bytes) -> None:
    with patient.connected() as client:
        heard = 0
        while heard < 3:
            found = client.receive()
            assert found is not None
            assert found.opcode in (PING, TEXT)
            if found.opcode == PING:
                heard += 1
                client.send(answer)


def test_the_server_has_survived_the_tests_above(server: Server) -> None:
    assert server.process.poll() is None
    with socket.create_connection(("127.0.0.1", server.port), timeout=1):
        pass
