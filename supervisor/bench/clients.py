"""The clients of `wsd bench`: thousands in one process, each no more than a protocol that counts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from wsd.supervisor.bench.frames import CLOSE, PING, PONG, TEXT, ServerFrames, client_frame, parse_close

GOODBYE = (1000).to_bytes(2)

DUE = b'"due":'
"""In a message's data, before the time when it was due: nanoseconds of our monotonic clock."""

MESSAGE = b'{"type":"message"'


class Tally:
    """What all clients together have seen."""

    def __init__(self) -> None:
        self.latencies: list[float] = []  # seconds, of each delivery
        self.acked = 0
        self.refused: Counter[str] = Counter()  # by code
        self.lost: Counter[str] = Counter()  # connections, by close code
        self.arrived: Callable[[], None] = lambda: None


class HandshakeError(Exception):
    """The server did not let it in."""


class BenchClient(asyncio.Protocol):
    def __init__(self, request: bytes, tally: Tally) -> None:
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._request = request
        self._tally = tally
        self._frames: ServerFrames | None = None
        self._answer = b""
        self._joining: asyncio.Future[None] | None = None
        self._leaving = False
        self._close = 1006, ""  # code and reason
        self._transport: asyncio.Transport

    async def join(self, channel: str) -> None:
        self._joining = asyncio.get_running_loop().create_future()
        self._send({"type": "subscribe", "channel": channel, "id": "join"})
        await self._joining

    def publish(self, channel: str, due_ns: int, padding: str) -> None:
        self._send({"type": "publish", "channel": channel, "data": {"due": due_ns, "pad": padding}, "id": due_ns})

    def leave(self) -> None:
        """With a goodbye: its session ends, too."""
        self._leaving = True
        if not self._transport.is_closing():
            self._transport.write(client_frame(CLOSE, GOODBYE))

    def abort(self) -> None:
        self._leaving = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._frames is None:
            self._answer += data
            head, end, data = self._answer.partition(b"\r\n\r\n")
            if not end:
                return
            status = head.split(b" ", 2)[1].decode() if head.startswith(b"HTTP/1.1 ") else "no HTTP"
            if status != "101":
                self._refuse(f"HTTP {status}")
                return
            self._frames = ServerFrames()
        now = time.monotonic_ns()
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT and payload.startswith(MESSAGE):
                self._delivered(payload, now)
            elif opcode == TEXT:
                self._told(payload)
            elif opcode == PING:
                self._transport.write(client_frame(PONG, payload))
            elif opcode == CLOSE:
                self._close = parse_close(payload)
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.welcomed.done():
            self._refuse(self._how_it_closed())
        elif not self._leaving:
            self._tally.lost[str(self._close[0])] += 1
        if self._joining is not None and not self._joining.done():
            self._joining.set_exception(HandshakeError(self._how_it_closed()))
        self.gone.set_result(None)

    def _how_it_closed(self) -> str:
        code, reason = self._close
        return f"closed with {code}" + (f" ({reason})" if reason else "")

    def _refuse(self, reason: str) -> None:
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
            self._tally.arrived()

    def _told(self, payload: bytes) -> None:
        try:
            told: dict[str, Any] = json.loads(payload)
            kind = told["type"]
        except (ValueError, KeyError, TypeError):
            self._refuse("it does not speak the hub's protocol")
            return
        if kind == "welcome":
            self.welcomed.set_result(None)
        elif kind == "error":
            self._tally.refused[told.get("code", "error")] += 1
            self._joined(told)
        elif kind == "ack":
            self._tally.acked += not self._joined(told)

    def _joined(self, told: dict[str, Any]) -> bool:
        """Whether that was the answer to `join`."""
        if told.get("id") != "join" or self._joining is None:
            return False
        if not self._joining.done():
            self._joining.set_result(None)
        return True

    def _send(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, separators=(",", ":")).encode()
        if not self._transport.is_closing():
            self._transport.write(client_frame(TEXT, text))
