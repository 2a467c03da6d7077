"""Bytes to ASGI, and the short way past it: uvicorn's protocols, replaced by ones that are made for many clients.

The hot path. What a delivery costs here is one write(2) and little else: 5 to 8 us of kernel, about 1 us of Python. So

- frames come encoded (`delivery`), and what is sent within one turn of the event loop is joined and written once;
- the socket is written directly while nothing waits in the transport, which saves its bookkeeping (1 us of 7);
- nothing is kept for an idle connection: no buffer, no parser, no timer, and, once an application has given it to a
  receiver (`FanoutProtocol.hand_off`), no task either.

docs/performance.md has the figures.
"""

import asyncio
import math
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from wsd.worker.containment import Containment, report
from wsd.worker.delivery.batch import Item
from wsd.worker.delivery.handle import EXTENSION, Receiver
from wsd.worker.delivery.outbox import Outbox, Outlet
from wsd.worker.logs import get_logger
from wsd.worker.security.limits import TokenBucket
from wsd.worker.server.asgi_websocket import AsgiWebSocket
from wsd.worker.server.keepalive import Keepalive
from wsd.worker.wire import frames, handshake
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.compression import negotiate
from wsd.worker.wire.ending import Ending, Side
from wsd.worker.wire.frames import CLOSE, EMPTY_CLOSE, PING, PONG, FrameReader

logger = get_logger(__name__)

LINGER_SECONDS = 1.0
"""How long a connection that broke the protocol is kept after its close frame.

To close a socket with unread input resets it (RFC 9293, 3.10.4), and the reset overtakes the close frame: the client
would see 1006 and not 1009. So what is still on its way is read and thrown away for a moment.
"""

CLOSE_SECONDS = 10.0
"""How long a client may take to answer a close frame; as uvicorn's."""

LAST_WORDS_SECONDS = 1.0
"""How long an application may take to answer what came before a client's close frame."""

MAX_EARLY_BYTES = 65_536
"""What a client may send before its handshake is answered."""

CONTROLS_PER_SECOND, CONTROL_BURST = 100.0, 1000.0
"""Pings and pongs of one client, whatever its application says; a client that sends more is closed with 1008."""

MAX_HEAD_BYTES = 65_536
"""What a client may send of a request, or between two pieces of its body, before something of it is complete."""

MAX_HEADERS = 256
MAX_PIPELINED = 16


class State(Enum):
    """CONNECTING -> OPEN, by the application's accept -> CLOSING, by a close frame of either side -> CLOSED."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class FanoutProtocol(asyncio.Protocol):
    """One WebSocket. Given to uvicorn as `ws="wsd.worker.server.websocket_protocol:FanoutProtocol"`."""

    outlet: ClassVar[Outlet] = Outlet()
    announces: ClassVar[bool] = False
    """Whether the answer to a handshake begins before the application hears of it, see `handshake.BEGINNING`."""

    __slots__ = (
        "__weakref__",
        "_accept",
        "_application",
        "_client_code",
        "_controls",
        "_early",
        "_full",
        "_inbound",
        "_parser",
        "_paused",
        "_pong",
        "_reader",
        "_receiver",
        "_request",
        "_server",
        "_state",
        "_timer",
        "_transport",
        "_window_bits",
        "answer_by",
        "heard",
        "outbox",
        "ping_at",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._server = _Server.of(config, server_state, app_state)
        self._state = State.CONNECTING
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._full = False  # the transport holds what the socket did not take
        self._pong: bytes | None = None  # to the newest ping that came while it was full
        self._paused = False  # the receiver wants no more for now
        self._inbound = 0  # bytes of this client's that are counted
        self._controls: TokenBucket | None = None  # of its pings and pongs, once it sends any
        self._parser: _RequestParser | None = None
        self._reader: FrameReader | None = None
        self._application: AsgiWebSocket | None = None  # until it gives the connection away, or returns
        self._receiver: Receiver | None = None  # until the end
        self._timer: asyncio.TimerHandle | None = None
        self._early = b""
        self._accept = b""
        self._window_bits = 0
        self._client_code: int = CloseCode.NO_STATUS  # of its close frame
        self._request: handshake.Request | None = None
        self.outbox = Outbox(self.outlet, self)
        self.heard = True
        self.ping_at = self.answer_by = 0.0

    # The handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # to be told of anything that waits
        self._server.state.connections.add(self)  # type: ignore[arg-type]

    def begin(self, request: handshake.Request, rest: bytes = b"") -> None:
        """`rest`: what came behind the request."""
        answer = handshake.accept_key(request)
        if isinstance(answer, handshake.Refused):
            logger.info("refused a handshake: %s", answer.reason)
            self._answer(answer.status, answer.headers, answer.reason.encode())
            return
        self._request, self._accept, self._early = request, answer, rest
        if self.announces:
            self._transport.write(handshake.BEGINNING)
        websocket = self._receiver = self._application = AsgiWebSocket(self, self._scope(request))
        server = self._server
        task = asyncio.get_running_loop().create_task(websocket.run(server.config.loaded_app))
        server.state.tasks.add(task)
        task.add_done_callback(server.state.tasks.discard)

    def _scope(self, request: handshake.Request) -> dict[str, Any]:
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
            "extensions": {"websocket.http.response": {}, EXTENSION: self},
        }

    def accept(self, headers: handshake.Headers, subprotocol: str | None) -> None:
        """Answer 101; from now on frames are read and sent.

        Raises RuntimeError, TypeError or ValueError for what HTTP cannot carry; the handshake then waits on.
        """
        request, config = self._request, self._server.config
        if self._state is not State.CONNECTING or request is None:
            return
        headers = [*self._server.state.default_headers, *headers]
        if subprotocol:
            headers.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        agreed = negotiate(request.values(b"sec-websocket-extensions")) if config.ws_per_message_deflate else None
        if agreed is not None:
            headers.append((b"sec-websocket-extensions", agreed[0].encode()))
        answer = handshake.switching(self._accept, headers)
        self._window_bits = agreed[1] if agreed is not None else 0
        self._reader = FrameReader(config.ws_max_size, compression=agreed is not None)
        self._write_answer(answer)
        self._state = State.OPEN
        self._request, self._accept = None, b""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not is_ssl(self._transport) and not self._window_bits:
            self.outbox.writes_to(sock.fileno())
        self._server.keepalive.add(self)
        early, self._early = self._early, b""
        if early:
            self._transport.resume_reading()
            self.data_received(early)  # before what comes next

    def refuse(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        """Answer the handshake with something else than 101."""
        if self._state is State.CONNECTING:
            self._answer(status, [*self._server.state.default_headers, *headers], body)
            self._ended(Side.SERVER, CloseCode.ABNORMAL, "")

    def _answer(self, status: int, headers: handshake.Headers, body: bytes) -> None:
        answer = handshake.response(status, headers, body)
        self._state = State.CLOSING
        self._write_answer(answer)
        self._transport.close()

    def _write_answer(self, answer: bytes) -> None:
        """Write the answer to the handshake, or what follows its beginning."""
        has_begun = self.announces and self._request is not None
        self._transport.write(answer.removeprefix(handshake.BEGINNING) if has_begun else answer)

    def _read_request(self, data: bytes) -> None:
        """From a server that hands the request on as bytes."""
        if self._request is not None:  # and it is not answered yet
            self._early += data
            if len(self._early) > MAX_EARLY_BYTES:
                self._transport.pause_reading()
            self._count_inbound(len(self._early))
            return
        if self._parser is None:
            self._parser = _RequestParser()
        try:
            found = self._parser.feed(data)
        except httptools.HttpParserError:
            self._answer(400, [], b"Invalid HTTP request received.")
            return
        if self._parser.bytes > MAX_HEAD_BYTES:
            self._answer(431, [], TOO_LARGE)
            return
        if found is not None:
            self._parser = None
            self.begin(*found)

    # What the client says

    def data_received(self, data: bytes) -> None:
        try:
            self._read(data)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report("protocol", exc)
            self.fail()

    def _read(self, data: bytes) -> None:
        if data:
            self.heard = True
        if self._state is not State.OPEN or self._reader is None:
            if self._state is State.CONNECTING:
                self._read_request(data)
            elif self._state is State.CLOSING and self._reader is not None:
                self._await_close_frame(data)
            return
        if self._receiver is None:
            return  # it has ended, and what came before is still being answered
        reader = self._reader
        while True:
            for opcode, content in reader.feed(data):
                if opcode <= 2:
                    if not self._paused:
                        self.outbox.heard_at = time.monotonic()
                    self._receiver.received(content)
                elif opcode == CLOSE:
                    self._closed_by_client(cast(bytes, content))
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
            self.outbox.heard_at = time.monotonic()  # it is about to say something
        self._count_inbound(reader.held_bytes)

    def _count_inbound(self, held: int) -> None:
        if held != self._inbound:
            change, self._inbound = held - self._inbound, held
            self.outbox.inbound(change)

    def _control(self, opcode: int, payload: bytes) -> None:
        """Answer a ping, unless the client sends too many. While the socket is full the newest answer waits alone (RFC
        6455, 5.5.3)."""
        now = time.monotonic()
        if self._controls is None:
            self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROL_BURST, now)
        if not self._controls.take(now):
            self.outbox.close(CloseCode.POLICY, "too many control frames")
        elif self._receiver is not None and self._receiver.controlled() and opcode == PING and not self.gone:
            pong = frames.encode(PONG, payload)
            if self._full:
                self._pong = pong
            else:
                self._transport.write(pong)

    def _closed_by_client(self, payload: bytes) -> None:
        assert self._reader is not None
        try:
            code, reason = frames.parse_close(payload)
        except frames.ProtocolError as exc:
            self._reader.violation = exc
            code, reason = exc.code, str(exc)
        else:
            self._client_code = code
        self._end_by_client(code, reason)

    def _end_by_client(self, code: int, reason: str) -> None:
        """Its close frame came, or what no client may send; what came before is answered first."""
        side = Side.CLIENT if self._reader is None or self._reader.violation is None else Side.SERVER
        if self._ended(side, code, reason):
            self.answered()
        else:
            self._timer = asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self.answered)

    def answered(self) -> None:
        if self._state is not State.OPEN or self._reader is None:
            return
        violation = self._reader.violation
        if violation is None:
            frame = EMPTY_CLOSE if self._client_code == CloseCode.NO_STATUS else frames.encode_close(self._client_code)
            self._say_goodbye(frame)
            self._transport.close()
        else:
            logger.info("a client broke the protocol: %s", violation)
            self._say_goodbye(frames.encode_close(violation.code, str(violation)))
            if self._transport.can_write_eof():
                self._transport.write_eof()
        self._end_within(LINGER_SECONDS)

    def _await_close_frame(self, data: bytes) -> None:
        reader = self._reader
        assert reader is not None
        while True:
            if any(opcode == CLOSE for opcode, _ in reader.feed(data)):
                self._transport.close()
                return
            if not reader.more:
                return
            data = b""

    # What the client is told

    def write(self, items: list[Item], sent: int = 0) -> bool:
        if self._window_bits:
            data = b"".join([item.deflated(self._window_bits) for item in items])
        elif len(items) == 1:
            data = items[0].frame or items[0].sealed()
        else:
            data = b"".join([item.frame or item.sealed() for item in items])
        if sent:
            data = data[sent:]
        if self._state is not State.OPEN:
            return True
        self._transport.write(data)
        if self._full:
            self.outbox.in_transport(self._transport.get_write_buffer_size())
            return False
        return True

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        with Containment("protocol", self):
            self.outbox.in_transport(0)
            pong, self._pong = self._pong, None
            if pong is not None and self._state is State.OPEN:
                self._transport.write(pong)
            if not self._full:
                self.outbox.drained()

    def fail(self) -> None:
        """Close the connection for a fault of the server's own."""
        if self._state is State.OPEN:
            self.outbox.fail()
        elif not self.gone:
            self.refuse(500, [], b"Internal Server Error")

    def end(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for the client's."""
        if self._state is State.CONNECTING:
            self.refuse(403, [], b"")
        elif self._state is State.OPEN:
            self._say_goodbye(frames.encode_close(code, reason))
            self._ended(Side.SERVER, code, reason)
            self._transport.resume_reading()
            self._end_within(LINGER_SECONDS if self._full else CLOSE_SECONDS)

    def shutdown(self) -> None:
        """The server stops."""
        if self._state is State.CONNECTING:
            self.refuse(503, [(b"retry-after", b"1")], b"the server restarts")
        elif self._state is State.OPEN:
            self.outbox.close(CloseCode.RESTART, "")
        if not self._transport.is_closing():
            self._end_within(LINGER_SECONDS)

    def ping(self) -> None:
        if self._state is State.OPEN:
            self._transport.write(PING_FRAME)

    def not_answered(self) -> None:
        if self._state is State.OPEN:
            self._say_goodbye(frames.encode_close(CloseCode.INTERNAL_ERROR, "keepalive ping timeout"))
            self._ended(Side.SERVER, CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self._transport.close()
            self._end_within(LINGER_SECONDS)

    def _say_goodbye(self, frame: bytes) -> None:
        """Send a close frame after all that waits. It is encoded before: what cannot be said must not end half."""
        self.outbox.flush()
        self._state = State.CLOSING
        self.outbox.writes_to(-1)
        self._transport.write(frame)

    def _end_within(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def _ended(self, side: Side, code: int, reason: str) -> bool:
        """Tell the receiver, once; whether all that came before is answered."""
        self.outbox.ended = self.outbox.ended or Ending(side, code, reason)
        receiver, self._receiver = self._receiver, None
        return receiver is None or receiver.ended(code, reason)

    @property
    def transport(self) -> asyncio.Transport | None:
        """None before the connection is made."""
        return self._transport

    @property
    def gone(self) -> bool:
        return self._state in (State.CLOSING, State.CLOSED)

    @property
    def connecting(self) -> bool:
        return self._state is State.CONNECTING

    @property
    def open(self) -> bool:
        return self._state is State.OPEN

    def connection_lost(self, exc: Exception | None) -> None:
        self.outbox.writes_to(-1)
        self._state = State.CLOSED
        self._server.state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended(Side.NETWORK, CloseCode.ABNORMAL, "")
        self.outbox.gone()
        self._reader = self._request = None

    # For applications

    def hand_off(self, receiver: Receiver) -> None:
        """From now on `receiver` gets what the client says, and the application's own call may return: the connection
        goes on without a task. What it has not received yet goes to the receiver first."""
        websocket, self._application = self._application, None
        if websocket is not None:
            if self._receiver is websocket:
                self._receiver = receiver
            websocket.hand_over(receiver)

    def application_returned(self, receiver: Receiver, *, failed: bool = False) -> None:
        """The application has returned, or raised: unless somebody else hears the client now, the connection ends."""
        self._application = None
        if self._receiver is receiver:
            if self._state is State.CONNECTING:
                self.refuse(500, [], b"Internal Server Error")
            else:
                self.end(CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL, "")
        elif self._receiver is None:
            self.answered()

    def pause_reading(self) -> None:
        self._paused = True
        self.outbox.heard_at = math.inf  # it may be talking
        if self._state is State.OPEN:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self.outbox.heard_at = time.monotonic()
        if self._state is State.OPEN:
            self._transport.resume_reading()
            if self._reader is not None and self._reader.more:
                asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        """Take what came before the receiver wanted no more."""
        if not self._paused and self._state is not State.CLOSED:
            self.data_received(b"")


TOO_LARGE = b"the head of the request is too large"

PING_FRAME = frames.encode(PING, b"wsd")

_servers: "WeakKeyDictionary[ServerState, _Server]" = WeakKeyDictionary()


class _Server:
    """What the connections of one server share."""

    def __init__(self, config: Config, state: ServerState, app_state: dict[str, Any]) -> None:
        self.config = config
        self.state = state
        self.app_state = app_state
        self.keepalive = Keepalive(config.ws_ping_interval, config.ws_ping_timeout)

    @classmethod
    def of(cls, config: Config, state: ServerState, app_state: dict[str, Any]) -> "_Server":
        server = _servers.get(state)
        if server is None:
            server = _servers[state] = cls(config, state, app_state)
        return server


class _RequestParser:
    """A request that comes as bytes."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: handshake.Headers = []
        self._complete = False
        self.bytes = 0  # fed so far, without being complete

    def feed(self, data: bytes) -> tuple[handshake.Request, bytes] | None:
        """The request, and what is behind it, once it is complete. Raises httptools.HttpParserError."""
        rest = b""
        self.bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            rest = data[exc.args[0] :]
        if not self._complete:
            return None
        self.bytes = 0
        parser = self._parser
        return handshake.Request(parser.get_method(), self._target, parser.get_http_version(), self._headers), rest

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._complete = True


LINGER_SECONDS = 5.0
"""How long the rest of a request's body is read after its answer."""


class LingeringTransport:
    """What the answer to the last request of a connection is written to; `close` decides when the connection ends."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


class HttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come, or is too large: uvicorn leaves that to a proxy.

    uvicorn's parser keeps what it was given of a header until the header is complete. So bytes are counted that came
    since anything was complete: the head of a request, or a piece of its body. The same bounds trailers and the
    extensions of chunks.

    A request that becomes a FanoutProtocol's is handed on as it is parsed, with what came behind it.
    """

    request_seconds = 10.0
    """From the connection, or from the first byte of a further request, to the end of its headers."""

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
        """Whether a response has begun, or may begin: nothing can be said between."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self) -> None:
        """End a connection that sends too much of what is no request."""
        logger.info("closed a connection that sends too much of what is no request")
        if not self._busy:
            self.transport.write(handshake.response(431, self.server_state.default_headers, TOO_LARGE))
        self.transport.close()

    def _upgrade(self, rest: bytes) -> None:
        self.connections.discard(self)
        protocol_class = cast(type[FanoutProtocol], self.ws_protocol_class)
        protocol = protocol_class(self.config, self.server_state, self.app_state)
        parser = self.parser
        request = handshake.Request(parser.get_method(), self.url, parser.get_http_version(), self.headers)
        self.parser = None  # type: ignore[assignment] # they hold each other
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
        if self._in_head:  # else it is a trailer, which may be ignored (RFC 9110, 6.5.1)
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
        """Close once the rest of a request's body has come, or has not come for too long.

        Who closes with bytes unread resets the connection, and the other side may lose the answer (RFC 9112, 9.6).
        """
        if self._body_has_ended:
            self.transport.close()
        else:
            self._is_lingering = True
            self.loop.call_later(LINGER_SECONDS, self.transport.close)

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


# uvicorn makes protocols by their class, without options.


def http_protocol(request_seconds: float, max_head_bytes: int) -> type[Any]:
    """Make the protocol class with these limits; uvicorn calls it with arguments of its own."""
    limits = {"request_seconds": request_seconds, "max_head_bytes": max_head_bytes}
    return type("HttpProtocol", (HttpProtocol,), limits)


def fanout_protocol(outlet: Outlet, *, announces: bool = False) -> type[Any]:
    return type("FanoutProtocol", (FanoutProtocol,), {"outlet": outlet, "announces": announces, "__slots__": ()})
