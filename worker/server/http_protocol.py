"""uvicorn's HTTP protocol, with limits for requests that arrive slowly or are too large."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wsd.worker.logs import get_logger
from wsd.worker.server.request_parser import MAX_HEAD_BYTES, TOO_LARGE
from wsd.worker.server.websocket_protocol import FanoutProtocol
from wsd.worker.wire import handshake

logger = get_logger(__name__)

MAX_HEADERS = 256
"""The maximum number of headers of a request."""

MAX_PIPELINED = 16
"""The maximum number of requests that may wait while the first is answered."""

REST_OF_BODY_SECONDS = 5.0
"""How long the rest of a request's body is read after the answer to the request."""


class LingeringTransport:
    """The transport for the answer to the last request of a connection. `close` decides when the connection ends."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request arrives too slowly or is too large. uvicorn leaves that to a proxy.

    The parser keeps the bytes of a header until the header is complete. So the bytes are counted that arrived since
    something was complete: the head of a request, or a piece of its body. This also bounds trailers and the extensions
    of chunks.

    A request for a WebSocket is handed to FanoutProtocol parsed, with the bytes behind it.
    """

    request_seconds = 10.0
    """The time limit for a request's head, from the connection or from the first byte of a further request."""

    max_head_bytes = MAX_HEAD_BYTES

    _timer: asyncio.TimerHandle | None = None
    _incomplete_bytes = 0
    _in_head = True
    _body_has_ended = True
    _is_lingering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._incomplete_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if not self._should_upgrade():
                self._unsupported_upgrade_warning()
            elif issubclass(self.ws_protocol_class or object, FanoutProtocol):
                self._upgrade(data[exc.args[0] :])
            else:
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            if len(self.headers or ()) >= MAX_HEADERS or self._busy:
                self._refuse()
            else:
                self.logger.warning("Invalid HTTP request received.")
                self.send_400_response("Invalid HTTP request received.")
        else:
            if self._incomplete_bytes > self.max_head_bytes:
                self._refuse()

    @property
    def _busy(self) -> bool:
        """True while a response has begun or may begin, so that no other response can be written."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        """Close a connection that sends too many bytes without completing a request."""
        logger.info("closed a connection that sent too many bytes without completing a request")
        if not self._busy:
            self.transport.write(handshake.response(431, self.server_state.default_headers, TOO_LARGE.encode()))
        self.transport.close()

    def _upgrade(self, rest: bytes) -> None:
        self.connections.discard(self)
        protocol_class = cast(type[FanoutProtocol], self.ws_protocol_class)
        protocol = protocol_class(self.config, self.server_state, self.app_state)
        parser = self.parser
        request = handshake.Request(parser.get_method(), self.url, parser.get_http_version(), self.headers)
        self.parser = None  # type: ignore[assignment] # the parser and this protocol hold each other
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.begin(request, rest)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests before the first is answered")
        super().on_message_begin()
        self._in_head = True
        self._await_request()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            raise ValueError("too many headers")
        if self._in_head:  # trailers may be ignored (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._incomplete_bytes = 0
        self._request_came()
        self._body_has_ended = False
        super().on_headers_complete()
        if self.cycle is not None and not self.cycle.keep_alive:
            self.cycle.transport = cast(asyncio.Transport, LingeringTransport(self.transport, self.close_after_body))

    def close_after_body(self) -> None:
        """Close the connection once the rest of a request's body has arrived, or after REST_OF_BODY_SECONDS.

        Closing with unread bytes resets the connection, and the client may lose the answer (RFC 9112, 9.6).
        """
        if self._body_has_ended:
            self.transport.close()
        else:
            self._is_lingering = True
            self.loop.call_later(REST_OF_BODY_SECONDS, self.transport.close)

    def on_body(self, body: bytes) -> None:
        self._incomplete_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._incomplete_bytes = 0
        self._body_has_ended = True
        super().on_message_complete()
        if self._is_lingering:
            self.transport.close()

    def _await_request(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_seconds, self.transport.close)

    def _request_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def http_protocol(request_seconds: float, max_head_bytes: int) -> type[Any]:
    """Return a protocol class with these limits. uvicorn constructs protocols from their class, without options."""
    limits = {"request_seconds": request_seconds, "max_head_bytes": max_head_bytes}
    return type("HttpProtocol", (HttpProtocol,), limits)
