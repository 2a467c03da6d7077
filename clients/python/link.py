"""One WebSocket: an attempt to open it, its messages, and its end."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Literal
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from wsd.client.address import BEARER, with_query
from wsd.client.ends import End
from wsd.client.failures import HANDSHAKE_ERRORS, end_of_attempt, end_of_connection

CLOSE_SECONDS = 2.0
"""How long the server may take to answer a close frame."""

READ_IN_A_ROW = 100
"""After so many messages, everything else in the process gets a turn.

The application takes more than these in one turn. Otherwise a fast server would fill the inbox of an application that
keeps up.
"""


class _Connect(connect):
    """An attempt that follows no redirect: the token must not reach another host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@dataclass(frozen=True)
class Connector:
    """How WebSockets are opened."""

    url: str
    additional_headers: Mapping[str, str] = field(default_factory=dict)
    ssl: SSLContext | None = None
    proxy: str | Literal[True] | None = True

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    async def open(self, query: Mapping[str, str], token: str | None) -> ClientConnection:
        """Open a WebSocket. Raises one of HANDSHAKE_ERRORS. There is no time limit: the owner of the task has one."""
        options: dict[str, Any] = {} if self.ssl is None else {"ssl": self.ssl}
        return await _Connect(
            with_query(self.url, query),
            subprotocols=None if token is None else [Subprotocol(BEARER), Subprotocol(token)],
            additional_headers=dict(self.additional_headers),
            proxy=self.proxy,
            open_timeout=None,
            ping_interval=None,  # the client has pings of its own, which the hub answers in words
            close_timeout=CLOSE_SECONDS,
            max_size=None,  # the hub's messages may be as large as its settings say
            **options,
        )


class Link:
    """The WebSocket of one attempt, from its handshake to its end."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._connection: ClientConnection | None = None
        self._outgoing: deque[str] = deque()
        self._news = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    async def run(
        self, query: Mapping[str, str], token: str | None, opened: Callable[[], None], received: Callable[[str], None]
    ) -> End:
        """Open the WebSocket, and read it until it has ended. Nothing that is called here waits for the application."""
        try:
            connection = await self._connector.open(query, token)
        except HANDSHAKE_ERRORS as exc:
            return end_of_attempt(exc, self._connector.host)
        self._connection = connection
        try:
            opened()
            while True:
                for _ in range(READ_IN_A_ROW):
                    text = await connection.recv()  # which returns at once while something is there
                    received(text if isinstance(text, str) else "")
                await asyncio.sleep(0)
        except ConnectionClosed as exc:
            return end_of_connection(exc)
        finally:
            connection.transport.abort()
            self._news.set()

    def send(self, text: str) -> None:
        self._outgoing.append(text)
        self._news.set()

    async def write(self) -> None:
        """Send what is to be sent, as fast as the server takes it. Runs beside `run`, once the WebSocket is open."""
        assert self._connection is not None
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._outgoing:
                    await self._connection.send(self._outgoing.popleft())
                self._news.clear()
                await self._news.wait()

    async def say_goodbye(self, code: int) -> None:
        """Close the WebSocket. The server has a short time to answer."""
        assert self._connection is not None
        self._outgoing.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.close(code)
        finally:
            self._connection.transport.abort()
