"""Hostile clients of a worker that has other clients.

Whatever they send or leave unread, the worker stays alive, its memory stays level, and no other client is affected.
"""

import itertools
import json
import os
import random
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cluster import PROTOCOL
from tests.support.ports import unused_port
from tests.support.raw_websocket import (
    BINARY,
    CLOSE,
    HEADERS,
    PING,
    PONG,
    TEXT,
    Frame,
    RawSocket,
    close,
    deflated,
    fragments,
    frame,
    inflated,
)
from tests.support.waiting import until
from tests.support.worker import Worker, worker

MEGABYTE = 1_000_000

own_protocol = pytest.mark.skipif(PROTOCOL != "wsd", reason="uvicorn's own protocol has its own limits, and tracebacks")

CHANNELS = json.dumps({"large": {"history_size": 1000}, "room": {"presence": "events", "receipts": True}})

FUZZ_SECONDS = float(os.environ.get("WSD_FUZZ_SECONDS", "10"))
FUZZ_SEED = int(os.environ.get("WSD_FUZZ_SEED", "7"))

COMPRESSING = (*HEADERS, "Sec-WebSocket-Extensions: permessage-deflate")


class Target:
    """A worker, and the port where it is reached without nginx."""

    def __init__(self, running: Worker, port: int) -> None:
        self.worker = running
        self.port = port
        self._process = psutil.Process(running.process.pid)

    def memory(self) -> int:
        return int(self._process.memory_info().rss)

    def raw(self) -> RawSocket:
        return RawSocket(self.port)

    def metric(self, name: str) -> float:
        _, text = self.worker.request("GET", "/metrics")
        return sum(float(value) for value in re.findall(rf"^wsd_{name}\{{[^}}]*\}} (\S+)", text, re.MULTILINE))

    def serves(self) -> None:
        """Check that a new client is welcomed and answered."""
        with self.client("probe") as probe:
            say(probe, type="ping", id="probe")
            answer(probe, "probe")

    def log(self) -> str:
        return self.worker.log.read_text()

    @contextmanager
    def client(self, user_id: str, *headers: str) -> Iterator[RawSocket]:
        """Connect a client of the hub, and wait for its welcome."""
        with RawSocket(self.worker.path) as raw:
            assert raw.request(f"/ws?user_id={user_id}", *headers) == 101
            assert json.loads(text_of(raw.receive()))["type"] == "welcome"
            yield raw


@contextmanager
def target(directory: Path, redis_url: str = "", **changes: Any) -> Iterator[Target]:
    port = unused_port()
    fields: dict[str, Any] = {"messages_per_second": 0.0, "bytes_per_second": 0.0}
    fields |= {"channels": CHANNELS, "compression": True}
    with worker(directory, redis_url=redis_url, listen=f"127.0.0.1:{port}", **{**fields, **changes}) as running:
        yield Target(running, port)


@pytest.fixture(scope="module")
def hub(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("hub"), redis_url) as running:
        yield running


@pytest.fixture(autouse=True)
def the_worker_is_unharmed(hub: Target) -> Iterator[None]:
    yield
    hub.worker.check_unharmed()
    hub.serves()


def text_of(found: Frame | None) -> str:
    assert found is not None, "the connection has ended"
    assert found.opcode == TEXT, found
    return (inflated(found.payload) if found.rsv else found.payload).decode()


def say(raw: RawSocket, **request: object) -> None:
    raw.send(frame(TEXT, json.dumps(request).encode()))


def answer(raw: RawSocket, request_id: object) -> dict[str, Any]:
    """Return the answer to a request. Messages before it are dropped."""
    while True:
        found = raw.receive()
        assert found is not None, "the connection has ended"
        if found.opcode == TEXT:
            message: dict[str, Any] = json.loads(found.payload)
            if message.get("id") == request_id:
                return message


def until_closed(raw: RawSocket) -> list[Frame]:
    """Return all frames up to and including the close frame."""
    found = []
    while (one := raw.receive()) is not None:
        found.append(one)
        if one.opcode == CLOSE:
            break
    return found


def code_of(frames: list[Frame]) -> int:
    """Return the code of the close frame at the end of these frames."""
    assert frames[-1].opcode == CLOSE, frames[-1]
    return int.from_bytes(frames[-1].payload[:2])


def fill_channel(hub: Target, channel: str, count: int, size: int) -> dict[str, Any]:
    """Publish `count` messages of `size` bytes, and return the position before them."""
    with hub.client("publisher") as publisher:
        say(publisher, type="subscribe", channel="nothing")
        for number in range(count):
            say(publisher, type="publish", channel=channel, data="x" * size, id=number)
            ack = answer(publisher, number)
            assert ack["durable"] is True
            if number == 0:
                first = {"offset": ack["offset"] - 1, "epoch": ack["epoch"]}
    return first


# What is sent back, or kept


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


EVIL = [
    '{"type":"broadcast","data":1,"id":' + nested(986) + "}",
    '{"type":"publish","channel":"room","data":1,"id":' + nested(900) + "}",
    '{"type":"ping","id":' + '{"a":' * 300 + "1" + "}" * 300 + "}",
    '{"type":"ping","id":' + "9" * 5000 + "}",
    '{"type":"ping","id":1e400}',
    '{"type":"ping","id":"\\ud800 \\udfff"}',
    '{"type":"' + "x" * 60_000 + '","id":1}',
    '{"type":' + nested(900) + ',"id":1}',
    '{"type":"broadcast","data":' + nested(986) + "}",
    '{"type":"broadcast","data":' + nested(32) + "}",
    '{"type":"broadcast","data":{"password":' + nested(500) + "}}",
    '{"type":"broadcast","data":' + "9" * 5000 + "}",
    '{"type":"broadcast","data":{"token":1,"a":' + "9" * 400 + "}}",
    '{"type":"broadcast","data":{"token":1,"a":1e400}}',
    '{"type":"broadcast","data":"\\ud800 \\udfff"}',
    '{"type":"broadcast","data":{"token":"\\ud83d\\ude00","\\u0000":1}}',
    '{"type":"broadcast","data":{"a":1,"a":2,"a":3}}',
    '{"type":"subscribe","channel":"' + "x" * 60_000 + '","id":1}',
    '{"type":"subscribe","channel":"room","since":{"offset":1,"epoch":"' + "x" * 60_000 + '"}}',
    '{"type":"direct","user_id":"' + "x" * 60_000 + '","data":1}',
    '{"type":"direct","user_id":"\\ud800x","data":1}',
    '{"type":"ping","positions":{' + ",".join(f'"{n}":{{"offset":{n},"epoch":"e"}}' for n in range(1000)) + "}}",
    '{"type":"publish","channel":"room","data":1,"idempotency_key":"' + "x" * 60_000 + '"}',
    '{"type":"publish","channel":"room","data":1,"idempotency_key":"\\u0000\\r\\n$1"}',
    '{"type":"resume","since":{}}',
    nested(30_000),
    '{"a":' * 10_000,
    "\x00",
    "{",
    "",
]


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_no_message_ends_more_than_itself(hub: Target, text: str) -> None:
    with hub.client("mallory") as mallory, hub.client("other") as other:
        for raw in (mallory, other):
            say(raw, type="subscribe", channel="room", id="in")
            answer(raw, "in")
        mallory.send(frame(TEXT, text.encode()))
        for raw in (mallory, other):
            say(raw, type="publish", channel="room", data="still here", id="after")
            assert answer(raw, "after")["type"] == "ack"


# What is never read


def test_pings_that_are_never_read_are_not_kept(hub: Target) -> None:
    payload = frame(PING, b"p" * 125) * 900
    before = hub.memory()
    with ExitStack() as stack:
        for number in range(100):
            silent = stack.enter_context(hub.client(f"silent-{number}"))
            silent.send(payload)
        hub.serves()
        assert hub.memory() - before < 12 * MEGABYTE  # 11 MB of pings; kept pongs take a hundred bytes each besides


@own_protocol
def test_a_flood_of_control_frames_ends_as_one_of_messages_does(hub: Target, tmp_path: Path) -> None:
    with hub.client("flood") as flood:
        for _ in range(400):
            flood.send(frame(PONG, b"p" * 125) * 800)
        assert code_of(until_closed(flood)) == 4429
    with target(tmp_path, messages_per_second=5.0, message_burst=10.0) as limited, limited.client("flood") as flood:
        flood.send(frame(PING) * 30)
        received = until_closed(flood)
        assert code_of(received) == 4429
        assert 5 < len([one for one in received if one.opcode == PONG]) < 15


@own_protocol
def test_only_the_newest_pong_waits_for_a_client_that_does_not_read(hub: Target) -> None:
    with hub.client("late") as late, hub.client("witness") as witness:
        for client in (late, witness):
            say(client, type="subscribe", channel="late", id="joined")
            answer(client, "joined")
        # The messages are more than the socket takes. Once the witness has them, they were written to both clients.
        for number in range(10):
            say(late, type="publish", channel="late", data="x" * 60_000, id=number)
            assert text_of(witness.receive())
        assert hub.metric("send_backlog_bytes") > 50_000
        for number in range(100):
            late.send(frame(PING, b"%d" % number))
        say(late, type="publish", channel="late", data="last", id="last")
        pongs = []
        while True:
            found = late.receive()
            assert found is not None
            if found.opcode == PONG:
                pongs.append(found.payload)
            elif json.loads(found.payload).get("id") == "last":
                break
        late.send(frame(PING, b"over"))
        while not pongs or pongs[-1] != b"over":
            found = late.receive()
            assert found is not None
            if found.opcode == PONG:
                pongs.append(found.payload)
        assert b"99" in pongs
        assert len(pongs) < 20


@own_protocol
def test_answers_that_are_never_read_end_their_connection(hub: Target) -> None:
    before = hub.memory()
    with hub.client("asks") as asks:
        padding = "y" * 200
        for number in range(40_000):
            asks.send(frame(TEXT, json.dumps({"type": "ping", "id": f"{number}{padding}"}).encode()))
        until(lambda: hub.metric("connections") == 0)
    assert hub.memory() - before < 10 * MEGABYTE


def test_missed_messages_are_read_at_the_pace_of_the_client(hub: Target) -> None:
    since = fill_channel(hub, "large", 300, 60_000)
    before = hub.memory()
    with ExitStack() as stack:
        readers = [stack.enter_context(hub.client(f"back-{n}")) for n in range(15)]
        for number, reader in enumerate(readers):
            for step in range(10 if number else 1):
                position = {**since, "offset": since["offset"] + number + step}
                say(reader, type="subscribe", channel="large", since=position, id=step)
        until(lambda: hub.metric("send_backlog_bytes") > 15 * 10_000)
        hub.serves()
        assert hub.memory() - before < 40 * MEGABYTE  # of 15 * 10 * 18 MB
        assert hub.metric("send_backlog_bytes") < 15 * MEGABYTE
        # It is all there for a client that reads, with what is new after it.
        with hub.client("new") as new:
            say(new, type="publish", channel="large", data="new", id="new")
            answer(new, "new")
        reader = readers[0]
        state = answer_to_subscribe(reader)
        assert state["recovered"] is True
        assert state["count"] >= 300
        assert offsets_until_new(reader) == list(range(since["offset"] + 1, since["offset"] + 302))
    until(lambda: hub.metric("send_backlog_bytes") == 0)


def answer_to_subscribe(raw: RawSocket) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(text_of(raw.receive()))
        if message["type"] == "subscribed":
            return message


def offsets_until_new(raw: RawSocket) -> list[int]:
    """Return the offsets of the messages of the first subscription, up to the message `new`."""
    found: list[int] = []
    while True:
        message = json.loads(text_of(raw.receive()))
        if message["type"] == "message":
            found.append(message["offset"])
            if message["data"] == "new":
                return found


def test_a_page_of_history_has_a_limit_in_bytes(hub: Target) -> None:
    since = fill_channel(hub, "pages", 30, 60_000)
    with hub.client("reader") as reader:
        offset, pages = since["offset"], 0
        while True:
            say(reader, type="history", channel="pages", since=offset, limit=500, id=pages)
            page = answer(reader, pages)
            if not page["messages"]:
                break
            assert len(json.dumps(page["messages"])) < 600_000
            assert next(one["offset"] for one in page["messages"]) == offset + 1
            offset, pages = page["messages"][-1]["offset"], pages + 1
        assert offset == since["offset"] + 30
        assert pages > 2
        say(reader, type="history", channel="pages", reverse=True, limit=500, id="back")
        newest = answer(reader, "back")["messages"]
        assert 1 < len(newest) < 30
        assert newest[0]["offset"] == offset


@own_protocol
def test_pages_that_are_never_read_are_not_kept(hub: Target) -> None:
    fill_channel(hub, "unread", 10, 60_000)
    before = hub.memory()
    with ExitStack() as stack:
        for number in range(10):
            asks = stack.enter_context(hub.client(f"asks-{number}"))
            asked = [json.dumps({"type": "history", "channel": "unread", "id": each}).encode() for each in range(100)]
            # In one piece: many small ones would fill the socket of a worker that has stopped to read.
            asks.send(b"".join(frame(TEXT, each) for each in asked))
        hub.serves()
        assert hub.memory() - before < 30 * MEGABYTE  # of 600


@own_protocol
def test_many_requests_in_one_piece_do_not_use_up_the_rate_for_good(tmp_path: Path) -> None:
    """Nothing is read from a client while many of its requests wait. The first messages are charged in this time."""
    limits: dict[str, Any] = {"bytes_per_second": 50_000.0, "byte_burst": 200_000.0}
    with target(tmp_path, **limits) as limited, limited.client("eager") as eager:
        requests: list[dict[str, Any]] = [{"type": "subscribe", "channel": "none", "id": "first"}]
        requests += [{"type": "publish", "channel": f"r:{n}", "data": 1, "id": n} for n in range(300)]
        eager.send(b"".join(frame(TEXT, json.dumps(each).encode()) for each in requests))
        answer(eager, 299)
        accepted = 0

        def fits(number: int) -> bool:
            say(eager, type="publish", channel="r:1", data="x" * 40_000, id=f"large-{number}")
            return bool(answer(eager, f"large-{number}")["type"] == "ack")

        for number in itertools.count():
            accepted += fits(number)
            if accepted == 6:  # more than the burst
                break
            time.sleep(0.1)
            assert number < 200, "the rate is not given back"


# What comes in pieces


@own_protocol
def test_fragments_that_bring_nothing_are_counted(hub: Target) -> None:
    with hub.client("pieces") as pieces:
        pieces.send(frame(TEXT, b"", fin=False))
        for _ in range(100):
            pieces.send(frame(0, b"", fin=False) * 100)
        assert code_of(until_closed(pieces)) == 1008


def test_fragments_of_one_byte_are_a_message(hub: Target) -> None:
    text = json.dumps({"type": "ping", "id": "x" * 200}).encode()
    with hub.client("bytes") as pieces:
        pieces.send(b"".join(fragments(TEXT, [text[n : n + 1] for n in range(len(text))])))
        assert answer(pieces, "x" * 200)["type"] == "pong"


@own_protocol
def test_half_messages_of_many_clients_are_bounded_together(tmp_path: Path, hub: Target) -> None:
    with target(tmp_path, max_total_buffer_bytes=1_000_000) as small, ExitStack() as stack:
        clients = [stack.enter_context(small.client(f"half-{n}")) for n in range(40)]
        for raw in clients:
            raw.send(frame(TEXT, b"h" * 60_000, fin=False))
        until(lambda: small.metric("send_backlog_bytes") > 500_000)
        assert small.metric("send_backlog_bytes") <= 1_000_000
        until(lambda: small.metric("connections") < 30)
        small.serves()


@pytest.mark.parametrize("parts", [1, 2, 50])
def test_a_compressed_message_is_bounded_by_what_it_becomes(hub: Target, parts: int) -> None:
    bomb = deflated(b"0" * 20 * MEGABYTE)
    size = len(bomb) // parts + 1
    pieces = [bomb[start : start + size] for start in range(0, len(bomb), size)]
    before = hub.memory()
    with hub.client("bomb", *COMPRESSING) as raw:
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            raw.send(frame(0 if number else TEXT, piece, fin=last, rsv=0 if number else 4))
        assert code_of(until_closed(raw)) == 1009
    assert hub.memory() - before < 10 * MEGABYTE


@own_protocol
def test_compressed_messages_are_inflated_one_by_one(hub: Target) -> None:
    """Each message has a few hundred bytes on the wire, and 60 KB in memory."""
    one = frame(
        TEXT, deflated(json.dumps({"type": "history", "channel": "c", "id": "x", "p": "0" * 60_000}).encode()), rsv=4
    )
    before, highest = hub.memory(), 0
    with hub.client("flood", *COMPRESSING) as raw:
        raw.send(one * 2000)
        for _ in range(50):
            highest = max(highest, hub.memory())
            time.sleep(0.01)
    assert highest - before < 25 * MEGABYTE  # of 120


@own_protocol
def test_blocks_that_inflate_to_nothing_end(hub: Target) -> None:
    empty = b"\x00\x00\x00\xff\xff" * 200  # stored blocks without content
    with hub.client("empty", *COMPRESSING) as raw:
        raw.send(frame(TEXT, empty, fin=False, rsv=4))
        for _ in range(1000):
            raw.send(frame(0, empty, fin=False))
        assert code_of(until_closed(raw)) == 1009


# What is no WebSocket at all

ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\nX: ", b"x" * 65_536),
    "a header's name": (b"GET / HTTP/1.1\r\n", b"x" * 65_536),
    "headers": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 5_000),
    "a request line": (b"GET /", b"x" * 65_536),
    "a method": (b"", b"X" * 65_536),
    "line breaks": (b"", b"\r\n" * 30_000),
    "a handshake": (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ", b"x" * 65_536),
    "a trailer": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 65_536),
    "trailers": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 5_000),
    "an extension of a chunk": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65_536),
    "requests without waiting": (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_request_without_an_end_ends(hub: Target, what: str) -> None:
    head, more = ENDLESS[what]
    before = hub.memory()
    with socket.create_connection(("127.0.0.1", hub.port), timeout=10) as raw:
        sent = 0
        with suppress(ConnectionError):
            raw.sendall(head)
            while sent < 20 * MEGABYTE:
                raw.sendall(more)
                sent += len(more)
        assert sent < 20 * MEGABYTE, "it read all"
    hub.serves()
    assert hub.memory() - before < 10 * MEGABYTE


def test_a_head_that_is_too_large_is_said_to_be(hub: Target) -> None:
    with hub.raw() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000)
        assert raw.status() == 431
    with hub.raw() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 300)
        assert raw.status() == 431
    with hub.raw() as raw:  # what browsers send at most is well within
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 16_000 + b"\r\n" + b"a: b\r\n" * 100 + b"\r\n")
        assert raw.status() == 200


def test_a_body_does_not_count_against_the_limit_of_the_head(hub: Target) -> None:
    """A body in chunks of one byte has more bytes around it than in it."""
    with hub.raw() as raw:
        raw.send(b"POST /api/websocket/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.send(b"1;extension=yes\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
        assert raw.status() < 500


# All of it, at random


class Fuzz:
    """A source of valid and invalid bytes that clients might send."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def json(self, depth: int = 0) -> Any:
        pick = self.random.randrange(9 if depth < 4 else 6)
        match pick:
            case 0:
                return self.random.choice([0, -1, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**30, "9" * 30, HUGE])
            case 1:
                return self.text()
            case 2:
                return self.random.choice([None, True, False, 1.5, 1e308, -0.0])
            case 3 | 4 | 5:
                return self.random.choice(["room", "large", "broadcast", "direct", "a", 1, ""])
            case 6:
                return [self.json(depth + 1) for _ in range(self.random.randrange(4))]
            case 7:
                return self.random.choice([DEEP, [0], [[[]]]])
            case _:
                return {self.text(): self.json(depth + 1) for _ in range(self.random.randrange(4))}

    def text(self) -> str:
        alphabet = 'abc:/#~ \x00\x7f\u202e\ud800\udc00é€😀[]{}"\\%$\r\n'
        return "".join(self.random.choices(alphabet, k=self.random.choice([0, 1, 5, 130, 300])))

    def request(self) -> bytes:
        kinds = [
            "broadcast",
            "subscribe",
            "unsubscribe",
            "publish",
            "direct",
            "presence",
            "history",
            "delivered",
            "ping",
            "resume",
            "nonsense",
        ]
        names = [
            "channel",
            "data",
            "id",
            "since",
            "limit",
            "reverse",
            "user_id",
            "offset",
            "epoch",
            "positions",
            "idempotency_key",
        ]
        message: dict[str, Any] = {"type": self.random.choice(kinds)}
        for name in self.random.sample(names, self.random.randrange(len(names))):
            message[name] = self.json()
        if self.random.random() < 0.5:
            message["channel"] = self.random.choice(["room", "large"])
            message["since"] = {"offset": self.random.randrange(300), "epoch": "e"}
        encoded = dumped(message)
        if self.random.random() < 0.2:
            broken = bytearray(encoded)
            for _ in range(self.random.randrange(1, 4)):
                broken[self.random.randrange(len(broken))] = self.random.randrange(256)
            encoded = bytes(broken)
        return encoded

    def bytes(self) -> bytes:
        """Return a frame, several frames, or a part of one."""
        match self.random.randrange(12):
            case 0:
                return self.random.randbytes(self.random.randrange(1, 200))
            case 1:
                return frame(self.random.randrange(16), self.random.randbytes(self.random.randrange(130)))
            case 2:
                return frame(PING, self.random.randbytes(self.random.randrange(125)))
            case 3:
                parts = [self.random.randbytes(self.random.randrange(20)) for _ in range(self.random.randrange(1, 30))]
                return b"".join(fragments(self.random.choice([TEXT, BINARY]), parts))
            case 4:
                return frame(TEXT, deflated(self.request()), rsv=4)
            case 5:
                return frame(TEXT, self.random.randbytes(50), rsv=self.random.randrange(8))
            case 6:
                return frame(TEXT, self.request(), mask=None)[: self.random.randrange(2, 40)]
            case 7:
                return close(self.random.choice([1000, 1001, 1005, 999, 3000, 70]), self.random.randbytes(5))
            case _:
                return b"".join(frame(TEXT, self.request()) for _ in range(self.random.randrange(1, 6)))


HUGE, DEEP = "a huge number", "a deep list"
"""Stand for what Python's own encoder refuses."""


def dumped(message: object) -> bytes:
    text = json.dumps(message).replace(f'"{HUGE}"', "9" * 4400)
    for levels in (31, 33, 200, 900, 5000):
        text = text.replace(f'"{DEEP}"', nested(levels), 1)
    return text.encode()


@own_protocol
def test_whatever_clients_send_the_worker_serves(redis_url: str, tmp_path: Path) -> None:
    """The test runs for WSD_FUZZ_SECONDS (10), with the random seed WSD_FUZZ_SEED (7)."""
    fuzz, started, sent = Fuzz(FUZZ_SEED), time.monotonic(), 0
    with target(tmp_path, redis_url) as victim, ExitStack() as stack:
        reader = stack.enter_context(victim.client("reader"))
        settled = 0
        while (passed := time.monotonic() - started) < FUZZ_SECONDS:
            with suppress(ConnectionError, TimeoutError), RawSocket(victim.worker.path) as raw:
                compresses = fuzz.random.random() < 0.5
                query = f"/ws?user_id=u{fuzz.random.randrange(5)}"
                if fuzz.random.random() < 0.1:
                    raw.send(fuzz.random.randbytes(fuzz.random.randrange(300)))
                    continue
                if raw.request(query, *(COMPRESSING if compresses else HEADERS)) != 101:
                    continue
                for _ in range(fuzz.random.randrange(1, 40)):
                    piece = fuzz.bytes()
                    sent += len(piece)
                    raw.send(piece)
                if fuzz.random.random() < 0.3:
                    raw.reset()
            drain(reader)
            if not settled and passed > FUZZ_SECONDS / 3:
                settled = victim.memory()
        victim.serves()
        victim.worker.check_unharmed()
        assert victim.metric("faults_total") == 0
        until(lambda: victim.metric("connections") <= 1)
        assert victim.memory() - settled < 20 * MEGABYTE, (settled, victim.memory())
        print(f"{sent} bytes, {settled} then {victim.memory()} bytes of memory")


def drain(raw: RawSocket) -> None:
    """Read everything that has arrived."""
    raw._socket.settimeout(0.001)
    with suppress(TimeoutError):
        while raw._socket.recv(262_144):
            pass
    raw._socket.settimeout(5.0)
