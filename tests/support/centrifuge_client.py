"""A client of the Centrifuge protocol with JSON, as bare as possible: what it sends and gets is in the test."""

import asyncio
import itertools
import json
from collections import deque
from contextlib import suppress
from typing import Any, Self

from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection, unix_connect

from tests.support.worker import Worker
from wsd.worker.contract.http_paths import CENTRIFUGE_PATH


class CentrifugeClient:
    """A connection to one worker. Answers to commands are told apart from pushes by their ids."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pushes: deque[dict[str, Any]] = deque()
        self._replies: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    @classmethod
    async def open(cls, worker: Worker, query: str = "") -> Self:
        """Open a connection without `connect`."""
        url = f"ws://localhost{CENTRIFUGE_PATH}?{query}"
        return cls(await unix_connect(str(worker.path), url, ping_interval=None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.connection.transport.abort()
        await self.connection.wait_closed()

    async def connect(self, **request: Any) -> dict[str, Any]:
        """Send `connect` and return its result."""
        return await self.ask("connect", **request)

    async def ask(self, name: str, **request: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        reply = await self.reply(name, **request)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply[name]
        return result

    async def refused(self, name: str, **request: Any) -> int:
        """Send a command that is refused, and return the code."""
        reply = await self.reply(name, **request)
        assert "error" in reply, reply
        code: int = reply["error"]["code"]
        return code

    async def reply(self, name: str, **request: Any) -> dict[str, Any]:
        """Send a command and return the reply."""
        number = next(self._ids)
        await self.connection.send(json.dumps({"id": number, name: request}))
        return await self.reply_to(number)

    async def send_all(self, *commands: tuple[str, dict[str, Any]]) -> list[int]:
        """Send commands in one frame, and return their ids."""
        numbered = [(next(self._ids), name, request) for name, request in commands]
        lines = (json.dumps({"id": number, name: request}) for number, name, request in numbered)
        await self.connection.send("\n".join(lines))
        return [number for number, _, _ in numbered]

    async def reply_to(self, number: int) -> dict[str, Any]:
        while number not in self._replies:
            await self._read()
        return self._replies.pop(number)

    async def push(self, kind: str = "pub") -> dict[str, Any]:
        """Return the next push of a kind, with its channel. Earlier pushes of other kinds are dropped."""
        while True:
            while self.pushes:
                push = self.pushes.popleft()
                if kind in push:
                    return push
            await self._read()

    async def closed(self) -> tuple[int, str]:
        """Read until the server closes the connection, and return the code and the reason."""
        async with asyncio.timeout(10):
            with suppress(ConnectionClosed):
                while True:
                    self._take(await self.connection.recv())
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""

    async def _read(self) -> None:
        async with asyncio.timeout(10):
            self._take(await self.connection.recv())

    def _take(self, frame: str | bytes) -> None:
        for line in (frame if isinstance(frame, str) else frame.decode()).split("\n"):
            reply = json.loads(line)
            if "push" in reply:
                self.pushes.append(reply["push"])
            elif reply:
                self._replies[reply["id"]] = reply
