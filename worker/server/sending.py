"""The sending half of a WebSocket: the way from an outbox to the socket.

This is the hot path. Frames come encoded, and what was sent within one turn of the event loop is written at once.
"""

import asyncio
from enum import Enum

from wsd.worker.background.containment import Containment
from wsd.worker.delivery.batch import Item
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.wire import frames
from wsd.worker.wire.frames import PING, PONG

PING_FRAME = frames.encode(PING, b"wsd")


class State(Enum):
    """The state of a WebSocket.

    CONNECTING -> OPEN when the application accepts -> CLOSING with the close frame of either side -> CLOSED.
    A handshake that is refused goes from CONNECTING to CLOSING.
    """

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class SendingHalf(asyncio.Protocol):
    """The `Writer` of an outbox. Holds the transport and the state of the connection."""

    outbox: Outbox

    __slots__ = ("_full", "_pong", "_state", "_timer", "_transport", "_window_bits", "outbox")

    def __init__(self) -> None:
        self._state = State.CONNECTING
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # until the connection is made
        self._full = False  # the transport holds bytes that the socket did not take
        self._pong: bytes | None = None  # the answer to the newest ping that came while the transport was full
        self._window_bits = 0  # of permessage-deflate; 0 without compression
        self._timer: asyncio.TimerHandle | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        """None before the connection is made."""
        return self._transport

    @property
    def connecting(self) -> bool:
        return self._state is State.CONNECTING

    @property
    def open(self) -> bool:
        return self._state is State.OPEN

    @property
    def gone(self) -> bool:
        return self._state in (State.CLOSING, State.CLOSED)

    def write(self, items: list[Item], sent: int = 0) -> bool:
        """Write messages in one piece, without the first `sent` bytes. Return False if the socket is full."""
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

    def ping(self) -> None:
        if self._state is State.OPEN:
            self._transport.write(self.outbox.dialect.ping_frame or PING_FRAME)

    def fail(self) -> None:
        """Close the connection because of a fault of the server."""
        raise NotImplementedError

    def _send_pong(self, payload: bytes) -> None:
        """Answer a ping. While the socket is full, only the answer to the newest ping waits (RFC 6455, 5.5.3)."""
        pong = frames.encode(PONG, payload)
        if self._full:
            self._pong = pong
        else:
            self._transport.write(pong)

    def _send_close(self, frame: bytes) -> None:
        """Send a close frame behind everything that waits in the outbox.

        The frame is encoded by the caller, so that a code or reason that cannot be sent is an error before anything
        has changed.
        """
        self.outbox.flush()
        self._state = State.CLOSING
        self.outbox.writes_to(-1)
        self._transport.write(frame)

    def _abort_in(self, seconds: float) -> None:
        """End the TCP connection after some seconds, whatever the client does. The last call counts."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)
