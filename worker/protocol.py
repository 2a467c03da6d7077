"""Bytes to ASGI: uvicorn's WebSocket protocol, with an end that the client gets to see."""

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
