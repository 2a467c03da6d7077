"""The clients of `wsd bench`. Thousands of them run in one process, so each is an asyncio protocol that only counts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from wsd.supervisor.bench.frames import CLOSE, PING, PONG, TEXT, ServerFrames, client_frame, parse_close

CLEAN_CLOSE = (1000).to_bytes(2)

DUE = b'"due":'
"""What precedes the time at which a message was due, in its data: nanoseconds of our monotonic clock.

Messages are searched for these bytes and not decoded, which keeps the load cheap.
"""

MESSAGE = b'{"type":"message"'


class Tally:
    """A count of everything that the clients of a run have received."""

    def __init__(self) -> None:
        self.latencies: list[float] = []  # seconds, one per delivery
        self.acked = 0
        self.refused: Counter[str] = Counter()  # messages, by error code
        self.lost: Counter[str] = Counter()  # connections, by close code
        self.on_delivery: Callable[[], None] = lambda: None


class HandshakeError(Exception):
    """The server did not accept the connection."""


class BenchClient(asyncio.Protocol):
    """One WebSocket connection to the hub."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        """`request` is the HTTP request of the handshake."""
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._request = request
        self._tally = tally
        self._frames: ServerFrames | None = None
        self._response = b""
        self._joining: asyncio.Future[None] | None = None
        self._leaving = False
        self._close = 1006, ""  # code and reason
        self._transport: asyncio.Transport

    async def join(self, channel: str) -> None:
        """Subscribe to a channel and wait for the answer. Raises HandshakeError if the connection is lost meanwhile."""
        self._joining = asyncio.get_running_loop().create_future()
        self._send({"type": "subscribe", "channel": channel, "id": "join"})
        await self._joining

    def publish(self, channel: str, due_ns: int, padding: str) -> None:
        """Publish a message that was due at `due_ns`."""
        self._send({"type": "publish", "channel": channel, "data": {"due": due_ns, "pad": padding}, "id": due_ns})

    def leave(self) -> None:
        """Close the connection cleanly, so that the session ends, too."""
        self._leaving = True
        if not self._transport.is_closing():
            self._transport.write(client_frame(CLOSE, CLEAN_CLOSE))

    def abort(self) -> None:
        self._leaving = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._frames is None:
            self._response += data
            head, end, data = self._response.partition(b"\r\n\r\n")
            if not end:
                return
            status = head.split(b" ", 2)[1].decode() if head.startswith(b"HTTP/1.1 ") else "no HTTP"
            if status != "101":
                self._fail(f"HTTP {status}")
                return
            self._frames = ServerFrames()
        now = time.monotonic_ns()
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT and payload.startswith(MESSAGE):
                self._delivered(payload, now)
            elif opcode == TEXT:
                self._answered(payload)
            elif opcode == PING:
                self._transport.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                self._close = parse_close(payload)
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.welcomed.done():
            self._fail(self._how_it_closed())
        elif not self._leaving:
            self._tally.lost[str(self._close[0])] += 1
        if self._joining is not None and not self._joining.done():
            self._joining.set_exception(HandshakeError(self._how_it_closed()))
        self.gone.set_result(None)

    def _how_it_closed(self) -> str:
        code, reason = self._close
        return f"closed with {code}" + (f" ({reason})" if reason else "")

    def _fail(self, reason: str) -> None:
        """Close a connection to a server that cannot be used."""
        if not self.welcomed.done():
            self.welcomed.set_exception(HandshakeError(reason))
        self._leaving = True
        self._transport.close()

    def _delivered(self, payload: bytes, now: int) -> None:
        start = payload.find(DUE)
        if start >= 0:
            start += len(DUE)
            due = int(payload[start : payload.index(b",", start)])
            self._tally.latencies.append((now - due) / 1e9)
            self._tally.on_delivery()

    def _answered(self, payload: bytes) -> None:
        """Handle everything that the hub sends besides messages."""
        try:
            answer: dict[str, Any] = json.loads(payload)
            kind = answer["type"]
        except (ValueError, KeyError, TypeError):
            self._fail("it does not speak the hub's protocol")
            return
        if kind == "welcome":
            self.welcomed.set_result(None)
        elif kind == "error":
            self._tally.refused[answer.get("code", "error")] += 1
            self._finish_joining(answer)
        elif kind == "ack":
            self._tally.acked += not self._finish_joining(answer)

    def _finish_joining(self, answer: dict[str, Any]) -> bool:
        """Let `join` return if this is its answer, and return whether it is."""
        if answer.get("id") != "join" or self._joining is None:
            return False
        if not self._joining.done():
            self._joining.set_result(None)
        return True

    def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":")).encode()
        if not self._transport.is_closing():
            self._transport.write(client_frame(TEXT, text))
