"""The ASGI side of a WebSocket (ASGI spec, WebSocket 2.4): one application's receive and send."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.utils import ClientDisconnected

from wsd.worker import delivery, handshake
from wsd.worker.frames import BINARY
from wsd.worker.logs import get_logger
from wsd.worker.outbox import Receiver

if TYPE_CHECKING:
    from wsd.worker.protocol import FanoutProtocol

logger = get_logger(__name__)

MAX_UNREAD_MESSAGES = 16
MAX_UNREAD_BYTES = 65_536
"""Beyond either, nothing is read from the client until its application has received all."""

MAX_UNFLUSHED = 64
"""Messages that an application may send without a turn of the event loop, before they are written all the same."""


class AsgiWebSocket:
    __slots__ = ("_answer", "_ended", "_paused", "_protocol", "_scope", "_unread", "_unread_bytes", "_waiter")

    def __init__(self, protocol: "FanoutProtocol", scope: dict[str, Any]) -> None:
        self._protocol = protocol
        self._scope: Scope = scope
        self._unread: deque[Message] = deque([{"type": "websocket.connect"}])
        self._unread_bytes = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._answer: Message | None = None  # an HTTP response that has begun
        self._ended: tuple[int, str] | None = None

    async def run(self, app: ASGIApp) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except ClientDisconnected:
            self._protocol.abandoned(self)
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError):
                logger.info("the application was cancelled")
            else:
                logger.exception("Exception in ASGI application")
            self._protocol.abandoned(self, failed=True)
        else:
            self._protocol.abandoned(self)

    # As the receiver of a protocol

    def received(self, content: str | bytes) -> None:
        kind = "text" if isinstance(content, str) else "bytes"
        self._tell({"type": "websocket.receive", kind: content})
        self._unread_bytes += len(content)
        if not self._paused and (len(self._unread) > MAX_UNREAD_MESSAGES or self._unread_bytes > MAX_UNREAD_BYTES):
            self._paused = True
            self._protocol.pause_reading()

    def controlled(self) -> bool:
        return True

    def ended(self, code: int, reason: str) -> bool:
        answered = not self._unread
        self._ended = (code, reason)
        self._tell({"type": "websocket.disconnect", "code": code, "reason": reason})
        return answered

    def hand_over(self, receiver: Receiver) -> None:
        """Give what is not received yet to another receiver."""
        while self._unread:
            message = self._unread.popleft()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                receiver.received(message["bytes"] if text is None else text)
        if self._ended is not None:
            receiver.ended(*self._ended)
        else:
            self._read_on()

    def _tell(self, message: Message) -> None:
        self._unread.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # As ASGI has it

    async def receive(self) -> Message:
        while not self._unread:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._unread.popleft()
        if not self._unread:
            self._read_on()
            if self._ended is not None:
                self._protocol.answered()
        return message

    def _read_on(self) -> None:
        self._unread_bytes = 0
        if self._paused:
            self._paused = False
            self._protocol.resume_reading()

    async def send(self, message: Message) -> None:
        """Carry out what the application says.

        Raises ClientDisconnected, an OSError. Raises ValueError, TypeError or RuntimeError for what cannot be said to a
        client: the connection is then as it was before.
        """
        kind, protocol = message["type"], self._protocol
        if kind == "websocket.send" and protocol.open:
            outbox = protocol.outbox
            if outbox.blocked:
                await outbox.until_drained()
            item = _item(message)
            if item is not None:
                outbox.put(item)
            if len(outbox.pending) > MAX_UNFLUSHED:
                outbox.flush()
        elif kind == "websocket.close" and protocol.open:
            code = message.get("code")
            protocol.outbox.close(1000 if code is None else code, message.get("reason") or "")
        elif protocol.connecting:
            self._answer_handshake(message)
        elif self._ended is not None:
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
                handshake.response(message["status"], headers, b"")  # raises now, not with the body
                self._answer = {**message, "headers": headers, "body": b""}
            case "websocket.http.response.body" if self._answer is not None:
                self._answer["body"] += message.get("body", b"")
                if not message.get("more_body", False):
                    protocol.refuse(self._answer["status"], self._answer["headers"], self._answer["body"])
            case kind:
                raise RuntimeError(f"Unexpected ASGI message '{kind}' before the WebSocket was accepted.")


def _item(message: Message) -> delivery.Message | None:
    """What a `websocket.send` is on the wire. Bytes come first, as in uvicorn; without both there is nothing to send.

    Raises TypeError for other types, UnicodeEncodeError for a text that UTF-8 cannot say.
    """
    binary, text = message.get("bytes"), message.get("text")
    if isinstance(binary, bytes | bytearray | memoryview):
        return delivery.Message(bytes(binary), opcode=BINARY)
    if binary is None and isinstance(text, str):
        return delivery.Message(text.encode())
    if binary is None and text is None:
        return None
    raise TypeError(
        f"websocket.send takes text as str or bytes, got {type(text if binary is None else binary).__name__}"
    )
