"""One client's connection, as the rest of the worker knows it: who it is, what it is sent, and why it ends."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from wsd.worker.delivery.batch import Message
from wsd.worker.delivery.connection_record import Event, add_event
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.delivery.send_queue import SendQueue, Writer
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.logs import get_logger
from wsd.worker.wire import frames
from wsd.worker.wire.close_codes import CloseCode, Ending, Side

logger = get_logger(__name__)

SendText = Callable[[str], Awaitable[None]]
SendMessage = Callable[[Message], Awaitable[None]]


class Outbox(SendQueue):
    """The queue of a connection, with the connection's identity and its end.

    An outbox exists before its client is connected to the manager, which then binds it to a session. Under our
    protocol it has a writer. Under other servers it has none, and `pump` sends what waits.
    """

    __slots__ = (
        "_close_timer",
        "_closing",
        "_on_gone",
        "channels",
        "ended",
        "events",
        "received_at",
        "session_id",
        "user_id",
        "username",
    )

    def __init__(self, outlet: Outlet, writer: Writer | None = None) -> None:
        super().__init__(outlet, writer)
        self.session_id = self.user_id = self.username = ""
        self.channels: set[str] = NO_CHANNELS
        self.events: list[Event] = NO_EVENTS  # its record, see `note`
        self.received_at = 0.0  # when the client was last active (monotonic); infinite while nobody reads from it
        self.ended: Ending | None = None  # by the side that was first
        self._on_gone: Callable[[Outbox], None] | None = None  # called once, when the WebSocket has ended
        self._closing: asyncio.Future[tuple[int, str]] | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    def bind(
        self,
        session_id: str,
        user_id: str,
        username: str,
        on_gone: "Callable[[Outbox], None] | None" = None,
        dialect: Dialect = HUB,
    ) -> None:
        """Bind the connection to a session. The queue is held until `release`. `on_gone` is called with the end."""
        self.dialect = dialect
        self.session_id = session_id
        self.user_id = user_id
        self.username = username
        self._on_gone = on_gone
        self.channels = set()
        self.catching_up = {}
        self.events = []
        # Without our protocol, the code that reads from the client has to set `received_at`.
        self.received_at = time.monotonic() if self._writer is not None else math.inf
        self.held = True
        self.fd = -1

    def write_through(self, wrap: Callable[[Writer], Writer]) -> None:
        """Write through a writer around the present one. The outlet then never writes to the socket directly.

        Does nothing without a writer. To be called while the queue is held, once the WebSocket is accepted.
        """
        if self._writer is not None:
            self._writer = wrap(self._writer)
            self.writes_to(-1)

    @property
    def public_id(self) -> str:
        """The id of the connection that other clients may know. It is too short to resume the session with."""
        return self.session_id[:16]

    def note(self, what: str, detail: str = "") -> None:
        """Add an event to the record of this connection."""
        add_event(self.events, (time.time(), what, detail))

    def send(self, payload: bytes) -> None:
        """Send a message that the dialect has rendered."""
        self.put(Message(payload, opcode=self.dialect.opcode))

    def close_slow(self) -> None:
        waiting = self.waiting_bytes
        if self.closed is None:
            logger.warning("closed user %r, who reads too slowly: %d bytes waited for them", self.user_id, waiting)
        self._drop_backlog()
        self.pending = []
        self.close(CloseCode.SLOW_READER, "reading too slowly")

    def fail(self) -> None:
        """Close the connection because of a fault of the server. What waits is not sent any more."""
        self.pending = []
        self._drop_backlog()
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def close(self, code: int, reason: str) -> None:
        """Close the connection. Does nothing if it is closed already.

        Raises ValueError or TypeError if a close frame cannot have this code or reason. Nothing has changed then.
        """
        if self.closed is None:
            frames.encode_close(code, reason)
            if self._writer is None:
                self.flush()  # for `pump`: what is put into a closed outbox is not sent any more
        if self.closed is None:  # still, although the flush may have closed a slow reader
            self.closed = (code, frames.close_reason(reason))
            self.ended = self.ended or Ending(Side.SERVER, *self.closed)
            self._recount()
            if self._closing is not None:
                self._closing.set_result(self.closed)
            if self._wake is not None:
                self._wake.set()
            if self._writer is not None:
                self.flush()
                self._writer.end(code, reason)

    def close_in(self, seconds: float | None, code: int, reason: str) -> None:
        """Close the connection after some seconds, unless it has ended by then. A later call replaces the time.

        None: no time is set.
        """
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        if seconds is not None and not self._gone:
            self._close_timer = asyncio.get_running_loop().call_later(seconds, self.close, code, reason)

    @property
    def closing(self) -> "asyncio.Future[tuple[int, str]]":
        """A future of the close code and the reason, done once the server wants the connection to end."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            if self.closed is not None:
                self._closing.set_result(self.closed)
        return self._closing

    def gone(self) -> None:
        """Let go of everything that waits, because the connection has ended. Calls the `on_gone` of `bind`."""
        self.writes_to(-1)
        self._gone = True
        self._drop_backlog()
        self.pending = []
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        self._writer = None
        self._recount()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone(self)

    async def pump(self, send_text: SendText) -> None:
        """Send the texts that wait, as `pump_messages` does."""

        async def send(message: Message) -> None:
            await send_text(message.payload.decode())

        await self.pump_messages(send)

    async def pump_messages(self, send: SendMessage) -> None:
        """Send what waits, until the server wants the connection to end and all of it is sent.

        The caller then closes the WebSocket, with the code and the reason that `closing` has. Under our protocol
        messages do not need this, and the call only waits.
        """
        if self._writer is not None:
            self.release()
            await asyncio.wait([self.closing])
            return
        self._wake = asyncio.Event()
        self.release()
        while True:
            while self._backlog:
                items = self._backlog.take(0, self.dialect)
                self._recount()
                for item in items:
                    for message in item.messages:
                        await send(message)
            self._wake.clear()
            if not self._backlog:
                self._drop_backlog()
                if self.closed is not None:
                    return
            await self._wake.wait()


# The values of a connection that is not bound to a session yet. Never added to.
NO_CHANNELS: set[str] = set()
NO_EVENTS: list[Event] = []
