"""The opening handshake of one connection (RFC 6455, 4.2), from the first byte of the request to the answer."""

import asyncio
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from wsd.worker.server.request_parser import MAX_HEAD_BYTES, TOO_LARGE, RequestParser
from wsd.worker.server.server_context import ServerContext
from wsd.worker.wire import handshake
from wsd.worker.wire.compression import negotiate
from wsd.worker.wire.handshake import Refused, Request

MAX_EARLY_BYTES = 65_536
"""How much is read from a client before its handshake is answered."""


class OpeningHandshake:
    """Reads a request and writes the answer to it. A connection drops its handshake once it has accepted.

    A request arrives in one of two ways: as bytes, from a server that replays them, or parsed, from `HttpProtocol`.
    """

    __slots__ = ("_accept_key", "_announces", "_parser", "_request", "_server", "_transport", "early")

    def __init__(self, server: ServerContext, transport: asyncio.Transport, *, announces: bool) -> None:
        """Begin without a request. `announces`: begin the answer before the application is called, see `BEGINNING`."""
        self._server = server
        self._transport = transport
        self._announces = announces
        self._parser: RequestParser | None = None
        self._request: Request | None = None
        self._accept_key = b""
        self.early = b""  # what the client sent behind its request

    @property
    def is_read(self) -> bool:
        """True once the request is complete and may become a WebSocket."""
        return self._request is not None

    def feed(self, data: bytes) -> tuple[Request, bytes] | Refused | None:
        """Read bytes of the request. Return the request and the bytes behind it, or None while it is incomplete."""
        if self._parser is None:
            self._parser = RequestParser()
        try:
            found = self._parser.feed(data)
        except httptools.HttpParserError:
            return Refused(400, "Invalid HTTP request received.", [])
        return Refused(431, TOO_LARGE, []) if self._parser.bytes > MAX_HEAD_BYTES else found

    def begin(self, request: Request, rest: bytes) -> dict[str, Any] | Refused:
        """Return the ASGI scope for a request. `rest` is what came behind the request."""
        answer = handshake.accept_key(request)
        if isinstance(answer, Refused):
            return answer
        self._request, self._accept_key, self.early = request, answer, rest
        self._parser = None
        if self._announces:
            self._transport.write(handshake.BEGINNING)
        return self._scope(request)

    def keep(self, data: bytes) -> int:
        """Keep what the client sends before the answer. Return how many bytes are kept.

        Reading stops above MAX_EARLY_BYTES. `early` has the bytes.
        """
        self.early += data
        if len(self.early) > MAX_EARLY_BYTES:
            self._transport.pause_reading()
        return len(self.early)

    def _scope(self, request: Request) -> dict[str, Any]:
        config, transport = self._server.config, self._transport
        raw_path, _, query = request.target.partition(b"?")
        path = raw_path.decode("ascii", "surrogateescape")
        return {
            "type": "websocket",
            "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
            "http_version": request.http_version,
            "scheme": "wss" if is_ssl(transport) else "ws",
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "root_path": config.root_path,
            "path": config.root_path + (unquote(path) if "%" in path else path),
            "raw_path": config.root_path.encode() + raw_path,
            "query_string": query,
            "headers": request.headers,
            "subprotocols": request.tokens(b"sec-websocket-protocol"),
            "state": self._server.app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    def accept(self, headers: handshake.Headers, subprotocol: str | None) -> int:
        """Answer 101. Return the window bits of permessage-deflate, or 0 without compression.

        Raises RuntimeError, TypeError or ValueError for headers that HTTP cannot carry. Nothing is written then, and
        the handshake can still be answered.
        """
        request = self._request
        assert request is not None
        headers = [*self._server.state.default_headers, *headers]
        if subprotocol:
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        compresses = self._server.config.ws_per_message_deflate
        agreed = negotiate(request.values(b"sec-websocket-extensions")) if compresses else None
        if agreed is not None:
            headers.append((b"sec-websocket-extensions", agreed[0].encode()))
        self._write(handshake.switching(self._accept_key, headers))
        return agreed[1] if agreed is not None else 0

    def refuse(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        """Write any other answer, after which the connection must be closed.

        Raises RuntimeError, TypeError or ValueError for what HTTP cannot carry. Nothing is written then, and the
        handshake can still be answered.
        """
        self._write(handshake.response(status, headers, body))

    def _write(self, answer: bytes) -> None:
        has_begun = self._announces and self._request is not None
        self._transport.write(answer.removeprefix(handshake.BEGINNING) if has_begun else answer)
