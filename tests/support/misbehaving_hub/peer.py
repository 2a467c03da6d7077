"""One connection of the stand-in: WebSocket frames over TCP, where every mistake is possible."""

import asyncio
import contextlib
import http
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from tests.support.loop_server import reset_at_close
from tests.support.misbehaving_hub.memory import Message, Session

ABNORMAL = 1006
"""Stands for the end of a connection without a close frame."""

BEARER = Subprotocol("wsd.bearer")

silent = logging.getLogger("tests.misbehaving_hub")
silent.disabled = True  # a stand-in breaks the protocol on purpose


class Owner(Protocol):
    """What is told of a connection."""

    def opened(self, peer: "Peer") -> None: ...
    def asked(self, peer: "Peer", request: Request) -> None: ...
    def said(self, peer: "Peer", content: str | bytes) -> None: ...
    def ended(self, peer: "Peer", code: int, *, by_client: bool) -> None: ...
    def failed(self, exc: BaseException) -> None: ...


class Peer(asyncio.Protocol):
    """One connection from a client."""

    def __init__(self, owner: Owner, number: int, max_message_bytes: int) -> None:
        self.number = number
        self.newcomer: Session | None = None  # the session of a client whose `resume` names none that is known
        self.session: Session | None = None  # once the client is welcomed
        self.channels: set[str] = set()
        self.awaits_resume: asyncio.TimerHandle | None = None
        self._owner = owner
        self._transport: asyncio.Transport
        self._websocket = ServerProtocol(
            max_size=max_message_bytes or None,
            subprotocols=[BEARER],
            select_subprotocol=lambda _, offered: BEARER if BEARER in offered else None,
            logger=silent,
        )
        self._parts: list[bytes] = []
        self._opcode = Opcode.TEXT

    @property
    def is_open(self) -> bool:
        """True between the handshake and the end of the connection."""
        return self._websocket.state is OPEN and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._websocket.receive_data(data)
            for event in self._websocket.events_received():
                if isinstance(event, Request):
                    self._owner.asked(self, event)
                elif isinstance(event, Frame):
                    self._framed(event)
            self._flush()
        except Exception as exc:  # noqa: BLE001 - a fault of the stand-in must fail the test
            self._owner.failed(exc)
            self.reset()

    def _framed(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._opcode = frame.opcode
        self._parts.append(bytes(frame.data))
        if frame.fin:
            content = b"".join(self._parts)
            self._parts.clear()
            self._owner.said(self, content.decode() if self._opcode is Opcode.TEXT else content)

    def eof_received(self) -> None:
        self._websocket.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.awaits_resume is not None:
            self.awaits_resume.cancel()
        if (sent := self._websocket.close_sent) is not None and self._websocket.close_rcvd_then_sent is not True:
            self._owner.ended(self, sent.code, by_client=False)
        else:
            received = self._websocket.close_rcvd
            self._owner.ended(self, received.code if received is not None else ABNORMAL, by_client=True)

    def accept(self, request: Request) -> bool:
        """Answer the handshake, and return whether the connection is open."""
        self._websocket.send_response(self._websocket.accept(request))
        self._flush()
        return self.is_open

    def refuse(self, status: int, headers: Mapping[str, str], body: str) -> None:
        """Answer the handshake with a response that refuses it, and end the connection."""
        content = body.encode()
        fields = {"Content-Length": str(len(content)), "Connection": "close", **headers}
        lines = [
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            *(f"{k}: {v}" for k, v in fields.items()),
            "",
            "",
        ]
        self._transport.write("\r\n".join(lines).encode() + content)
        self._transport.close()

    def send(self, item: str | bytes | Message) -> None:
        """Send text as it is, bytes as binary, a message as JSON. Nothing is sent after the end of the connection."""
        if self.is_open:
            if isinstance(item, bytes):
                self._websocket.send_binary(item)
            else:
                text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, separators=(",", ":"))
                self._websocket.send_text(text.encode())
            self._flush()

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._transport.write(data)

    def close(self, code: int, reason: str = "") -> None:
        """Close the connection with a close frame, or with a reset for the code 1006."""
        if code == ABNORMAL:
            self.reset()
        elif self.is_open:
            self._websocket.send_close(code, reason)
            self._flush()

    def reset(self) -> None:
        """End the connection with a reset."""
        connection: Any = self._transport.get_extra_info("socket")
        if not self._transport.is_closing():
            reset_at_close(connection)
        self._transport.abort()

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            elif not self._transport.is_closing():
                # A close while data arrive would be a reset, which overtakes the close frame.
                with contextlib.suppress(OSError):  # the client has reset the connection
                    self._transport.write_eof()
