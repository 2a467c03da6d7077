"""What is to be sent to one client, in order, so that a slow reader never holds up the others."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from wsd.worker.containment import report
from wsd.worker.delivery.backlog import Backlog
from wsd.worker.delivery.batch import Batch, Item, Message
from wsd.worker.delivery.flight_recorder import Event, add_event
from wsd.worker.logs import get_logger
from wsd.worker.wire import frames
from wsd.worker.wire.close_codes import CloseCode, Ending, Side

logger = get_logger(__name__)

SLOW = (CloseCode.SLOW_READER, "reading too slowly")

INTERNAL_ERROR = (CloseCode.INTERNAL_ERROR, "internal error")

CHUNK_BYTES = 65_536
"""How much of a backlog is sent at once."""

SendText = Callable[[str], Awaitable[None]]


class Writer(Protocol):
    """The way to one client's socket."""

    def write(self, items: list[Item], sent: int = 0) -> bool:
        """Take all of them, but for the bytes that were sent; False when it can take no more before it calls
        `Outbox.drained`."""

    def end(self, code: int, reason: str) -> None:
        """Send a close frame, and end the connection."""


class Outlet:
    """The way out of a worker: what is sent within one turn of the event loop is written once to each connection.

    Bounds what waits for slow readers, one by one and together.
    """

    def __init__(self, *, max_buffer_bytes: int = 1_048_576, max_total_bytes: int = 268_435_456) -> None:
        """The limits are of what waits for one client, and for all of them."""
        self.max_buffer_bytes = max_buffer_bytes
        self.waiting_bytes = 0
        self._max_total_bytes = max_total_bytes
        self._dirty: list[Outbox] = []
        self._slow: set[Outbox] = set()

    def touch(self, outbox: "Outbox") -> None:
        """Something waits for this one, where nothing did."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self.flush)
        self._dirty.append(outbox)

    def touch_all(self, outboxes: "list[Outbox]") -> None:
        if outboxes:
            self.touch(outboxes.pop())
            self._dirty += outboxes

    def flush(self) -> None:
        """Write what came in this turn. Here is where the time goes: the plain case is spelled out, which saves three
        calls of four for each connection."""
        dirty, self._dirty = self._dirty, []
        write = os.write
        for outbox in dirty:
            items = outbox.pending
            try:  # costs nothing, while nothing is raised: what cannot be sent to one must not keep it from the others
                if outbox.fd >= 0 and items:
                    if len(items) == 1:
                        frame = items[0].frame or items[0].sealed()
                    else:
                        frame = b"".join([item.frame or item.sealed() for item in items])
                    try:
                        sent = write(outbox.fd, frame)
                    except OSError:  # the socket is full, or broken: its writer finds out
                        sent = 0
                    if sent == len(frame):
                        items.clear()
                    else:
                        outbox.flush(sent)
                else:
                    outbox.flush()
            except Exception as exc:  # noqa: BLE001 - of whatever kind
                report("outlet", exc)
                outbox.fail()

    def waits(self, outbox: "Outbox", more: int) -> None:
        """So many more bytes are held because of a client; the one with most goes where it is too much for all."""
        self.waiting_bytes += more
        if more <= 0:
            return
        self._slow.add(outbox)
        outbox.peak_bytes = max(outbox.peak_bytes, outbox.waiting_bytes)
        while self.waiting_bytes > self._max_total_bytes and self._slow:
            max(self._slow, key=lambda slow: slow.held_bytes).close_slow()

    def waits_no_more(self, outbox: "Outbox", less: int) -> None:
        self.waiting_bytes -= less
        self._slow.discard(outbox)


class Outbox:
    """Of one connection; who it is, is known once it is connected to the manager.

    It is held at first: until `release` nothing is sent, so that the welcome can be the first. Without a writer it is
    `pump` that sends.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_closing",
        "_counted",
        "_drained",
        "_ending",
        "_gone",
        "_on_gone",
        "_socket",
        "_wake",
        "_writer",
        "catching_up",
        "channels",
        "closed",
        "ended",
        "events",
        "fd",
        "heard_at",
        "held",
        "inbound_bytes",
        "outlet",
        "peak_bytes",
        "pending",
        "session_id",
        "transport_bytes",
        "user_id",
        "username",
    )

    def __init__(self, outlet: Outlet, writer: Writer | None = None) -> None:
        self.session_id = self.user_id = self.username = ""
        self.channels: set[str] = NO_CHANNELS
        self.events: list[Event] = NO_EVENTS  # its flight recorder's
        self.peak_bytes = 0  # the most that ever waited for it
        self.transport_bytes = 0  # given to the transport, and not taken by the socket yet
        self.inbound_bytes = 0  # of the client's: not complete yet, or not carried out
        self._counted = 0  # of all these, what the outlet knows
        self.pending: list[Item] = []  # in this turn of the loop
        self.catching_up: dict[str, object] = NOTHING  # channels that it still reads from their histories, by label
        self._socket = -1
        self.fd = -1  # of the socket, to write to it directly while nothing waits
        self.held = False
        self._gone = False
        self.heard_at = 0.0  # when it last said anything; infinite while nobody listens to it
        self.ended: Ending | None = None  # by whoever was first
        self.closed: tuple[int, str] | None = None  # code and reason, once the server wants the connection to end
        self._on_gone: Callable[[Outbox], None] | None = None  # called when its WebSocket has ended, however
        self.outlet = outlet
        self._writer = writer
        self._backlog: Backlog | None = None
        self._wake: asyncio.Event | None = None
        self._closing: asyncio.Future[tuple[int, str]] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._ending: asyncio.TimerHandle | None = None

    def bind(
        self, session_id: str, user_id: str, username: str, on_gone: "Callable[[Outbox], None] | None" = None
    ) -> None:
        """From now on it is held, until `release`."""
        self.session_id = session_id
        self.user_id = user_id
        self.username = username
        self._on_gone = on_gone
        self.channels = set()
        self.catching_up = {}
        self.events = []
        # Of a connection that is not our protocol's, somebody else has to note when its client spoke.
        self.heard_at = time.monotonic() if self._writer is not None else math.inf
        self.held = True
        self.fd = -1

    def note(self, what: str, detail: str = "") -> None:
        """For its flight recorder."""
        add_event(self.events, (time.time(), what, detail))

    def writes_to(self, fd: int) -> None:
        """The writer's socket may be written to directly, while nothing waits; -1: no more."""
        self._socket = fd
        self.fd = fd if self._backlog is None and not self.held and not self.catching_up else -1

    def put(self, item: Item) -> None:
        pending = self.pending
        if pending:
            last = pending[-1]
            if type(last) is Batch:
                last.open = False  # what comes after this item must not go before it
        else:
            self.outlet.touch(self)
        pending.append(item)

    def send(self, payload: bytes) -> None:
        self.put(Message(payload))

    def send_first(self, payload: bytes) -> None:
        """Before all that waits; while it is held."""
        self.flush()
        backlog = self._waiting()
        backlog.add_first(Message(payload))
        self._recount()

    def send_missed(self, batch: Batch) -> None:
        """Send what a client missed, before anything that comes from now on."""
        self.flush()
        if self._backlog is None and self._writer is not None and not self.held:
            if not self._writer.write([batch]):
                self._waiting()
        else:
            self._waiting().add_missed(batch)
            self._recount()
            if self._wake is not None:
                self._wake.set()

    def takes(self, size: int) -> bool:
        """Whether so much of what the client missed may be sent now: what it does not take is better left unread."""
        return self._backlog is None or self._backlog.bytes + size <= self.outlet.max_buffer_bytes // 2

    def catch_up(self, channel: str, reading: object) -> None:
        """Begin to leave out what is new in a channel: all of it will be read from the history, after what is older."""
        self.flush()
        self.catching_up[channel] = reading
        self.fd = -1

    def caught_up(self, channel: str) -> None:
        """From now on what is new in a channel is sent again."""
        if channel in self.catching_up:
            self.flush()
            del self.catching_up[channel]
            if not self.catching_up:
                self.writes_to(self._socket)

    def stop_catching_up(self) -> None:
        """The client is gone, or will never be there."""
        self.catching_up.clear()
        self._told_drained()

    def _without_catching_up(self, items: list[Item]) -> list[Item]:
        """Leave out what will be read from a history. What has no position there is sent all the same."""
        kept: list[Item] = []
        for item in items:
            if not isinstance(item, Batch) or item.channel not in self.catching_up:
                kept.append(item)
                continue
            item.open = False  # whatever is added to it now might be missed
            if unnumbered := [message for message in item.messages if message.position is None]:
                kept.append(Batch(item.channel, item.policy, unnumbered))
        return kept

    @property
    def blocked(self) -> bool:
        """Whether the client does not take what waits for it."""
        return self._backlog is not None

    @property
    def waiting_bytes(self) -> int:
        """What the client has not taken yet."""
        return self.transport_bytes + (self._backlog.bytes if self._backlog is not None else 0)

    @property
    def held_bytes(self) -> int:
        """All that this process holds because of the client."""
        return self.waiting_bytes + self.inbound_bytes

    def in_transport(self, size: int) -> None:
        """So much of what was written waits in the transport."""
        self.transport_bytes = size
        self._recount()

    def inbound(self, change: int) -> None:
        """Count more or fewer bytes that came from the client, and are not complete yet, or not carried out."""
        self.inbound_bytes += change
        self._recount()

    def _recount(self) -> None:
        held = self.held_bytes if self.closed is None and not self._gone else 0
        change, self._counted = held - self._counted, held
        if held:
            self.outlet.waits(self, change)
        else:
            self.outlet.waits_no_more(self, -change)

    def flush(self, sent: int = 0) -> None:
        """Write what came in this turn, but for the bytes that were sent, or let it wait."""
        items = self.pending
        if not items:
            return
        if self._gone:
            items.clear()
            return
        if self.catching_up:
            items = self.pending = self._without_catching_up(items)
            if not items:
                return
        if self._backlog is None and self._writer is not None and not self.held:
            if not self._writer.write(items, sent):
                self._waiting()
            items.clear()
            return
        self.pending = []
        backlog = self._waiting()
        fits = self.closed is not None or all([backlog.add(item) for item in items])  # noqa: C419 - each is added
        self._recount()
        if not fits:
            self.close_slow()
        if self._wake is not None:
            self._wake.set()

    def _waiting(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self.outlet.max_buffer_bytes)
            self.fd = -1
        return self._backlog

    def release(self) -> None:
        """What waits may go out now."""
        self.held = False
        self.flush()
        if self._backlog is None:
            self._let_go()
        elif self._writer is not None:
            self.drained()

    def drained(self) -> None:
        """The writer takes more."""
        backlog = self._backlog
        if backlog is None or self.held or self._writer is None:
            return
        while backlog:
            items = backlog.take(CHUNK_BYTES)
            self._recount()
            if not self._writer.write(items):
                return
        self._let_go()

    def _let_go(self) -> None:
        """Nothing waits any more."""
        if self._backlog is not None:
            self._backlog = None
            self._recount()
        if not self.held and not self.catching_up:
            self.fd = self._socket
        self._told_drained()

    def _told_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    async def until_drained(self) -> None:
        """Wait until the client has taken what waits for it, or is gone."""
        while self._backlog is not None and not self.held:
            await self._until_told_drained()

    async def until_takes_more(self) -> bool:
        """Wait until the client is there and has taken what waits for it; False when it is gone, or catches up no
        more."""
        while self.catching_up and (self.held or self._backlog is not None):
            await self._until_told_drained()
        return bool(self.catching_up) and self.closed is None and not self._gone

    async def _until_told_drained(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def close_slow(self) -> None:
        waiting = self.waiting_bytes
        if self.closed is None:
            logger.warning("closed user %r, who reads too slowly: %d bytes waited for them", self.user_id, waiting)
        self._let_go()
        self.pending = []
        self.close(*SLOW)

    def fail(self) -> None:
        """Close the connection for a fault of the server's own; nothing that waits is sent any more."""
        self.pending = []
        self._let_go()
        self.close(*INTERNAL_ERROR)

    def close(self, code: int, reason: str) -> None:
        """End the connection; a second time means nothing.

        Raises ValueError or TypeError for what no close frame can say; nothing has changed then.
        """
        if self.closed is None:
            frames.encode_close(code, reason)
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

    def close_in(self, seconds: float, code: int, reason: str) -> None:
        """End the connection after some time, unless it has ended before; the last call holds."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().call_later(seconds, self.close, code, reason)

    @property
    def closing(self) -> "asyncio.Future[tuple[int, str]]":
        """Gets the close code and reason once the server wants the connection to end."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            if self.closed is not None:
                self._closing.set_result(self.closed)
        return self._closing

    def gone(self) -> None:
        """The connection has ended."""
        self.writes_to(-1)
        self._gone = True
        self._let_go()
        self.pending = []
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        self._writer = None
        self._recount()
        on_gone, self._on_gone = self._on_gone, None
        if on_gone is not None:
            on_gone(self)

    async def pump(self, send_text: SendText) -> None:
        """Return once the server wants the connection to end, and what waited for it before is sent.

        Without a writer of ours it is this that sends what waits: who calls it ends the WebSocket then, with the code
        and the reason that `closing` has.
        """
        if self._writer is not None:
            self.release()
            await asyncio.wait([self.closing])
            return
        self._wake = asyncio.Event()
        self.release()
        while True:
            while self._backlog:
                items = self._backlog.take(0)
                self._recount()
                for item in items:
                    for message in item.messages:
                        await send_text(message.payload.decode())
            self._wake.clear()
            if not self._backlog:
                self._let_go()
                if self.closed is not None:
                    return
            await self._wake.wait()


# Of a connection that belongs to nobody yet; never added to.
NO_CHANNELS: set[str] = set()
NO_EVENTS: list[Event] = []
NOTHING: dict[str, object] = {}
