"""One WebSocket: bytes to ASGI, and the short way past ASGI.

Replaces uvicorn's WebSocket protocol by one that is made for many clients. This is the hot path. A delivery costs one
write(2) and little else: 5 to 8 us of kernel, about 1 us of Python. So

- frames come encoded (`delivery`), and what is sent within one turn of the event loop is joined and written once;
- the socket is written directly while nothing waits in the transport, which saves its bookkeeping (1 us of 7);
- nothing is kept for an idle connection: no buffer, no parser, no timer, and no task either, once an application has
  handed the connection off to a receiver (`FanoutProtocol.hand_off`).

docs/performance.md has the figures. The class has three parts beside this file: the opening handshake
(`opening_handshake`), the sending half (`sending`) and the application's side (`asgi_websocket`).
"""

import asyncio
import math
import sys
import time
from typing import Any, ClassVar, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from wsd.worker.background.containment import report
from wsd.worker.delivery.handle import EXTENSION, LAST_WORDS_SECONDS, Receiver
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.logs import get_logger
from wsd.worker.security.limits import TokenBucket
from wsd.worker.server.asgi_websocket import AsgiWebSocket
from wsd.worker.server.opening_handshake import OpeningHandshake
from wsd.worker.server.sending import SendingHalf, State
from wsd.worker.server.server_context import ServerContext
from wsd.worker.wire import frames, handshake
from wsd.worker.wire.close_codes import CloseCode, Ending, Side
from wsd.worker.wire.frames import CLOSE, EMPTY_CLOSE, PING, FrameReader

logger = get_logger(__name__)

LINGER_SECONDS = 1.0
"""How long a connection is kept after our close frame for a client that broke the protocol or reads nothing.

Closing a socket with unread input resets the connection (RFC 9293, 3.10.4), and the reset overtakes the close frame:
the client would see 1006 and not 1009. So input is read and thrown away for a moment.
"""

CLOSE_SECONDS = 10.0
"""How long a client may take to answer a close frame. uvicorn's protocols wait as long."""

CAN_WRITE_TO_SOCKETS = sys.platform != "win32"
"""Whether os.write() takes sockets. On Windows, the number of a socket can be that of an open file."""

CONTROLS_PER_SECOND, CONTROL_BURST = 100.0, 1000.0
"""How many pings and pongs a client may send, whatever its application allows. More are closed with 4429."""


class FanoutProtocol(SendingHalf):
    """One WebSocket. uvicorn gets the class as `ws="wsd.worker.server.websocket_protocol:FanoutProtocol"`."""

    outlet: ClassVar[Outlet] = Outlet()
    announces: ClassVar[bool] = False
    """Whether the answer to a handshake begins before the application is called, see `handshake.BEGINNING`."""

    __slots__ = (
        "__weakref__",
        "_application",
        "_client_code",
        "_controls",
        "_inbound",
        "_opening",
        "_paused",
        "_reader",
        "_receiver",
        "_server",
        "answer_by",
        "has_received",
        "ping_at",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__()
        self.outbox = Outbox(self.outlet, self)
        self._server = ServerContext.of(config, server_state, app_state)
        self._opening: OpeningHandshake | None = None  # until it is accepted
        self._reader: FrameReader | None = None
        self._receiver: Receiver | None = None  # until it was told of the end
        self._application: AsgiWebSocket | None = None  # until it hands the connection off, or returns
        self._paused = False  # the receiver wants nothing more for now
        self._inbound = 0  # the incoming bytes that the outbox counts
        self._controls: TokenBucket | None = None  # since the client's first ping or pong
        self._client_code: int = CloseCode.NO_STATUS  # of the client's close frame
        self.has_received = True
        self.ping_at = self.answer_by = 0.0

    # The opening handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # so that pause_writing reports anything that waits
        self._opening = OpeningHandshake(self._server, self._transport, announces=self.announces)
        self._server.state.connections.add(self)  # type: ignore[arg-type]

    def _read_request(self, data: bytes) -> None:
        """Read from a client whose handshake is not answered yet."""
        opening = self._opening
        assert opening is not None
        if opening.is_read:
            self._count_inbound(opening.keep(data))
            return
        found = opening.feed(data)
        if isinstance(found, handshake.Refused):
            self._answer(found.status, found.headers, found.reason.encode())
        elif found is not None:
            self.begin(*found)

    def begin(self, request: handshake.Request, rest: bytes = b"") -> None:
        """Call the application for a request. `rest` is what came behind the request."""
        assert self._opening is not None
        scope = self._opening.begin(request, rest)
        if isinstance(scope, handshake.Refused):
            logger.info("refused a handshake: %s", scope.reason)
            self._answer(scope.status, scope.headers, scope.reason.encode())
            return
        scope["extensions"][EXTENSION] = self
        websocket = self._receiver = self._application = AsgiWebSocket(self, scope)
        self._server.run(websocket.run)

    def accept(self, headers: handshake.Headers, subprotocol: str | None) -> None:
        """Answer 101. From now on frames are read and sent.

        Raises what `OpeningHandshake.accept` raises.
        """
        opening, config = self._opening, self._server.config
        if self._state is not State.CONNECTING or opening is None or not opening.is_read:
            return
        self._window_bits = opening.accept(headers, subprotocol)
        self._reader = FrameReader(config.ws_max_size, compression=bool(self._window_bits))
        self._state = State.OPEN
        self._opening = None
        sock = self._transport.get_extra_info("socket")
        if CAN_WRITE_TO_SOCKETS and sock is not None and not is_ssl(self._transport) and not self._window_bits:
            self.outbox.writes_to(sock.fileno())
        self._server.keepalive.add(self)
        if opening.early:
            self._transport.resume_reading()
            self.data_received(opening.early)  # before anything that comes next

    def refuse(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        """Answer the handshake with another status than 101, unless it is answered already.

        Raises what `OpeningHandshake.refuse` raises.
        """
        if self._state is State.CONNECTING:
            self._answer(status, [*self._server.state.default_headers, *headers], body)
            self._report_end(Side.SERVER, CloseCode.ABNORMAL, "")

    def _answer(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        assert self._opening is not None
        self._opening.refuse(status, headers, body)
        self._state = State.CLOSING
        self._transport.close()

    # The receiving half

    def data_received(self, data: bytes) -> None:
        try:
            self._read(data)
        except Exception as exc:  # noqa: BLE001 - a fault costs only this client its connection
            report("protocol", exc)
            self.fail()

    def _read(self, data: bytes) -> None:
        if data:
            self.has_received = True
        if self._state is not State.OPEN or self._reader is None:
            if self._state is State.CONNECTING:
                self._read_request(data)
            elif self._state is State.CLOSING and self._reader is not None:
                self._await_close_frame(data)
            return
        if self._receiver is None:
            return  # the client has sent its close frame, and what it sent before is still being answered
        reader = self._reader
        while True:
            for opcode, content in reader.feed(data):
                if opcode <= 2:
                    if not self._paused:
                        self.outbox.received_at = time.monotonic()
                    self._receiver.received(content)
                elif opcode == CLOSE:
                    self._client_code, reason = reader.read_close(cast(bytes, content))
                    self._end_by_client(self._client_code, reason)
                    return
                else:
                    self._control(opcode, cast(bytes, content))
                if self.gone:
                    return
            if reader.violation is not None:
                self._end_by_client(reader.violation.code, str(reader.violation))
                return
            if self._paused or not reader.more:
                break
            data = b""
        if reader.held_bytes and not self._paused:
            self.outbox.received_at = time.monotonic()  # a part of a message shows that the client is not idle
        self._count_inbound(reader.held_bytes)

    def _count_inbound(self, held: int) -> None:
        if held != self._inbound:
            change, self._inbound = held - self._inbound, held
            self.outbox.inbound(change)

    def _control(self, opcode: int, payload: bytes) -> None:
        """Handle a ping or a pong, and close a client that sends too many of them."""
        now = time.monotonic()
        if self._controls is None:
            self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROL_BURST, now)
        if not self._controls.take(now):
            self.outbox.close(CloseCode.TOO_MANY, "too many control frames")
        elif self._receiver is not None and self._receiver.controlled() and opcode == PING and not self.gone:
            self._send_pong(payload)

    def pause_reading(self) -> None:
        self._paused = True
        self.outbox.received_at = math.inf  # while nothing is read, a client cannot be called idle
        if self._state is State.OPEN:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self.outbox.received_at = time.monotonic()
        if self._state is State.OPEN:
            self._transport.resume_reading()
            if self._reader is not None and self._reader.more:
                asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        """Take what the reader still has from before the pause."""
        if not self._paused and self._state is not State.CLOSED:
            self.data_received(b"")

    # The closing handshake (RFC 6455, 7.1)

    def _end_by_client(self, code: int, reason: str) -> None:
        """End a connection whose client closed it or broke the protocol, once all it sent before is answered."""
        side = Side.CLIENT if self._reader is None or self._reader.violation is None else Side.SERVER
        if self._report_end(side, code, reason):
            self.answered()
        else:
            self._timer = asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self.answered)

    def answered(self) -> None:
        """Answer the client's close frame, or send ours to a client that broke the protocol."""
        if self._state is not State.OPEN or self._reader is None:
            return
        violation = self._reader.violation
        if violation is None:
            has_code = self._client_code != CloseCode.NO_STATUS
            self._send_close(frames.encode_close(self._client_code) if has_code else EMPTY_CLOSE)
            self._transport.close()
        else:
            logger.info("a client broke the protocol: %s", violation)
            self._send_close(self._close_frame(violation.code, str(violation)))
            if self._transport.can_write_eof():
                self._transport.write_eof()
        self._abort_in(LINGER_SECONDS)

    def end(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for the client's. A handshake that is not answered yet is refused."""
        if self._state is State.CONNECTING:
            self.refuse(403, [], b"")
        elif self._state is State.OPEN:
            self._send_close(self._close_frame(code, reason))
            self._report_end(Side.SERVER, code, reason)
            self._transport.resume_reading()
            self._abort_in(LINGER_SECONDS if self._full else CLOSE_SECONDS)

    def _close_frame(self, code: int, reason: str) -> bytes:
        """Encode a close frame as the client's dialect has it. Raises what `frames.encode_close` raises."""
        return frames.encode_close(*self.outbox.dialect.closing(code, reason))

    def _await_close_frame(self, data: bytes) -> None:
        """Read until the client's answer to our close frame. Everything before it is thrown away."""
        reader = self._reader
        assert reader is not None
        while True:
            if any(opcode == CLOSE for opcode, _ in reader.feed(data)):
                self._transport.close()
                return
            if not reader.more:
                return
            data = b""

    def not_answered(self) -> None:
        """Close the connection without waiting for the client, which has not answered a ping."""
        if self._state is State.OPEN:
            self._send_close(self._close_frame(CloseCode.INTERNAL_ERROR, "keepalive ping timeout"))
            self._report_end(Side.SERVER, CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self._transport.close()
            self._abort_in(LINGER_SECONDS)

    def fail(self) -> None:
        """Close the connection because of a fault of the server."""
        if self._state is State.OPEN:
            self.outbox.fail()
        elif not self.gone:
            self.refuse(500, [], b"Internal Server Error")

    def shutdown(self) -> None:
        """Close the connection because the server stops."""
        if self._state is State.CONNECTING:
            self.refuse(503, [(b"retry-after", b"1")], b"the server restarts")
        elif self._state is State.OPEN:
            self.outbox.close(CloseCode.RESTART, "")
        if not self._transport.is_closing():
            self._abort_in(LINGER_SECONDS)

    def _report_end(self, side: Side, code: int, reason: str) -> bool:
        """Tell the receiver of the end, once. Return whether everything before the end is answered."""
        self.outbox.ended = self.outbox.ended or Ending(side, code, reason)
        receiver, self._receiver = self._receiver, None
        return receiver is None or receiver.ended(code, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self.outbox.writes_to(-1)
        self._state = State.CLOSED
        self._server.state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._report_end(Side.NETWORK, CloseCode.ABNORMAL, "")
        self.outbox.gone()
        self._reader = self._opening = None

    # The application

    def hand_off(self, receiver: Receiver) -> None:
        """See `WebSocketHandle.hand_off`."""
        websocket, self._application = self._application, None
        if websocket is not None:
            if self._receiver is websocket:
                self._receiver = receiver
            websocket.hand_over(receiver)

    def application_returned(self, receiver: Receiver, *, failed: bool = False) -> None:
        """End the connection after the application returned or raised, unless it has handed the connection off."""
        self._application = None
        if self._receiver is receiver:
            if self._state is State.CONNECTING:
                self.refuse(500, [], b"Internal Server Error")
            else:
                self.end(CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL, "")
        elif self._receiver is None:
            self.answered()


def fanout_protocol(outlet: Outlet, *, announces: bool = False) -> type[Any]:
    """Return a protocol class for one worker. uvicorn constructs protocols from their class, without options."""
    return type("FanoutProtocol", (FanoutProtocol,), {"outlet": outlet, "announces": announces, "__slots__": ()})
