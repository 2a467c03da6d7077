"""The ASGI side of a WebSocket (ASGI spec, WebSocket 2.4): one application's receive and send."""

import asyncio
from collections import deque
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.utils import ClientDisconnected

from wsd.worker.delivery import batch as delivery
from wsd.worker.delivery.handle import Receiver
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.logs import get_logger
from wsd.worker.wire import handshake
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.frames import BINARY

logger = get_logger(__name__)

MAX_UNREAD_MESSAGES = 16
MAX_UNREAD_BYTES = 65_536
"""Beyond either limit, nothing is read from the client until its application has received all messages."""

WITHOUT_REASON = (CloseCode.ABNORMAL, CloseCode.RESTART)
"""Codes of ends that usually have no reason: `websocket.disconnect` then has no `reason` either, as with uvicorn."""

MAX_UNFLUSHED = 64
"""How many messages an application may send within one turn of the event loop before they are written at once."""


class Connection(Protocol):
    """The connection that an application's calls act on."""

    outbox: Outbox

    @property
    def connecting(self) -> bool:
        """True until the handshake is answered."""

    @property
    def open(self) -> bool:
        """True while messages can be sent."""

    def accept(self, headers: handshake.Headers, subprotocol: str | None) -> None: ...

    def refuse(self, status: int, headers: handshake.Headers, body: bytes) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def answered(self) -> None:
        """Called when the application has received everything, including the end of the connection."""

    def application_returned(self, receiver: Receiver, *, failed: bool = False) -> None:
        """Called when the application has returned or raised."""


class AsgiWebSocket:
    """One application's side of a WebSocket. It is the connection's receiver until the application hands it off."""

    __slots__ = (
        "_answer",
        "_closed",
        "_ended",
        "_paused",
        "_protocol",
        "_scope",
        "_unread",
        "_unread_bytes",
        "_waiters",
    )

    def __init__(self, protocol: Connection, scope: dict[str, Any]) -> None:
        self._protocol = protocol
        self._scope: Scope = scope
        self._unread: deque[Message] = deque([{"type": "websocket.connect"}])
        self._unread_bytes = 0
        self._paused = False
        self._waiters: list[asyncio.Future[None]] = []  # one for each waiting call of `receive`, in order
        self._answer: Message | None = None  # an HTTP response that the application has begun
        self._ended: tuple[int, str] | None = None
        self._closed = False  # by the application

    async def run(self, app: ASGIApp) -> None:
        try:
            result: object = await app(self._scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except ClientDisconnected:
            self._protocol.application_returned(self)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError):
                logger.info("the application was cancelled")
            else:
                logger.exception("Exception in ASGI application")
            self._finish_answer()
            self._protocol.application_returned(self, failed=True)
        else:
            if self._protocol.connecting:
                logger.error("ASGI callable returned without completing handshake.")
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
            self._finish_answer()
            self._protocol.application_returned(self)

    # The receiver of the protocol

    def received(self, content: str | bytes) -> None:
        kind = "text" if isinstance(content, str) else "bytes"
        self._queue({"type": "websocket.receive", kind: content})
        self._unread_bytes += len(content)
        if not self._paused and (len(self._unread) > MAX_UNREAD_MESSAGES or self._unread_bytes > MAX_UNREAD_BYTES):
            self._paused = True
            self._protocol.pause_reading()

    def controlled(self) -> bool:
        return True

    def ended(self, code: int, reason: str) -> bool:
        answered = not self._unread
        self._ended = (code, reason)
        message: Message = {"type": "websocket.disconnect", "code": int(code)}
        if reason or code not in WITHOUT_REASON:
            message["reason"] = reason
        self._queue(message)
        return answered

    def hand_over(self, receiver: Receiver) -> None:
        """Give what the application has not received to another receiver."""
        while self._unread:
            message = self._unread.popleft()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                receiver.received(message["bytes"] if text is None else text)
        if self._ended is not None:
            receiver.ended(*self._ended)
        else:
            self._read_on()

    def _queue(self, message: Message) -> None:
        self._unread.append(message)
        self._wake()

    def _wake(self) -> None:
        """Wake as many waiting calls of `receive` as there are messages, in the order of the calls."""
        for waiter, _ in zip(self._waiters, self._unread, strict=False):
            if not waiter.done():
                waiter.set_result(None)

    # The application's receive and send

    async def receive(self) -> Message:
        if not self._unread or self._waiters:
            await self._wait_for_message()
        message = self._unread.popleft()
        if not self._unread:
            self._read_on()
            if self._ended is not None:
                self._protocol.answered()
        return message

    async def _wait_for_message(self) -> None:
        """Wait until there is a message for this call of `receive`.

        Earlier calls come first. A call that is cancelled takes no message.
        """
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wake()
        try:
            await waiter
        except asyncio.CancelledError:
            self._waiters.remove(waiter)
            self._wake()
            raise
        self._waiters.remove(waiter)

    def _read_on(self) -> None:
        self._unread_bytes = 0
        if self._paused:
            self._paused = False
            self._protocol.resume_reading()

    async def send(self, message: Message) -> None:
        """Carry out one message of the application.

        Raises ClientDisconnected, an OSError, if the connection has ended.
        Raises ValueError, TypeError or RuntimeError for a message that cannot be sent, and changes nothing then.
        """
        kind, protocol = message["type"], self._protocol
        if kind == "websocket.send" and protocol.open:
            outbox = protocol.outbox
            if outbox.blocked:
                await outbox.until_drained()
                if not protocol.open:
                    raise ClientDisconnected  # while this waited
            item = _item(message)
            if item is not None:
                outbox.put(item)
            if len(outbox.pending) > MAX_UNFLUSHED:
                outbox.flush()
        elif kind == "websocket.close" and protocol.open:
            code = message.get("code")
            protocol.outbox.close(CloseCode.NORMAL if code is None else code, message.get("reason") or "")
            self._closed = True
        elif protocol.connecting:
            self._answer_handshake(message)
        elif protocol.open:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")
        elif self._ended is not None and not self._closed:
            if kind != "websocket.close":  # a second close changes nothing
                raise ClientDisconnected
        else:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after the connection was closed or refused.")

    def _answer_handshake(self, message: Message) -> None:
        protocol = self._protocol
        match message["type"]:
            case "websocket.accept" if self._answer is None:
                protocol.accept(list(message.get("headers", ())), message.get("subprotocol"))
            case "websocket.close" if self._answer is None:
                protocol.refuse(403, [], b"")
            case "websocket.http.response.start" if self._answer is None:
                headers = list(message.get("headers", ()))
                handshake.response(message["status"], headers, b"")  # raises now rather than with the body
                self._answer = {**message, "headers": headers, "body": b""}
            case "websocket.http.response.body" if self._answer is not None:
                self._answer["body"] += message.get("body", b"")
                if not message.get("more_body", False):
                    protocol.refuse(self._answer["status"], self._answer["headers"], self._answer["body"])
            case kind if self._answer is not None:
                raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{kind}'.")
            case kind:
                raise RuntimeError(
                    "Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start' "
                    f"but got '{kind}'."
                )

    def _finish_answer(self) -> None:
        """Send an HTTP response that the application has begun and not completed."""
        if self._answer is not None:
            self._protocol.refuse(self._answer["status"], self._answer["headers"], self._answer["body"])


def _item(message: Message) -> delivery.Message | None:
    """Encode a `websocket.send` message. Return None if it has neither bytes nor text; bytes win, as in uvicorn.

    Raises TypeError for other types, UnicodeEncodeError for text that UTF-8 cannot encode.
    """
    binary, text = message.get("bytes"), message.get("text")
    if isinstance(binary, bytes | bytearray | memoryview):
        return delivery.OwnMessage(bytes(binary), opcode=BINARY)
    if binary is None and isinstance(text, str):
        return delivery.OwnMessage(text.encode())
    if binary is None and text is None:
        return None
    raise TypeError(
        f"websocket.send takes text as str or bytes, got {type(text if binary is None else binary).__name__}"
    )
