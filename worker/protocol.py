"""Bytes to ASGI: uvicorn's protocols, with a beginning that must come and an end that the client gets to see."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

LINGER_SECONDS = 1.0
"""How long a connection that broke the protocol is kept after its close frame."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Refuses what breaks the protocol (a message over the limit, say) with a close frame that arrives.

    To close a socket with unread input resets it (RFC 9293, 3.10.4), and the reset overtakes the close frame: the
    client would see 1006 and not 1009. So what is still on its way is read and thrown away for a moment.
    """

    def handle_parser_exception(self) -> None:
        if self.close_sent:
            return
        close = self.conn.close_sent
        assert close is not None
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come: uvicorn's own limit begins after the first one."""

    request_seconds = 10.0
    """From the connection, or from the first byte of a further request, to the end of its headers."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_request()

    def on_headers_complete(self) -> None:
        self._request_came()
        super().on_headers_complete()

    def _await_request(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_seconds, self.transport.close)

    def _request_came(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def http_protocol(request_seconds: float) -> type[Any]:
    """uvicorn makes protocols by their class, without options."""
    return type("HttpProtocol", (HttpProtocol,), {"request_seconds": request_seconds})
