"""The queue of messages to one client, by which a slow reader never holds up the others."""

import asyncio
from typing import Protocol

from wsd.worker.delivery.backlog import Backlog
from wsd.worker.delivery.batch import Batch, Item, Message, without_channels
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.dialects.hub_dialect import HUB

CHUNK_BYTES = 65_536
"""About how much of a backlog is written at once."""


class Writer(Protocol):
    """The way to one client's socket."""

    def write(self, items: list[Item], sent: int = 0) -> bool:
        """Write all items, except for the first `sent` bytes.

        Return False if the socket is full. `SendQueue.drained` must be called once it takes more.
        """

    def end(self, code: int, reason: str) -> None:
        """Send a close frame and end the connection."""


class SendQueue:
    """The messages that wait for one client, and the count of bytes that are held because of it.

    Messages are `pending` until the end of the turn of the event loop, and then written. They go to a backlog while

    - the queue is `held`: the client is being connected, and its welcome must be the first message;
    - the socket is full;
    - there is no writer, so that `Outbox.pump` takes them from the backlog.

    Channels that are `catching_up` are left out: their new messages will be read from the history, after older ones.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_counted",
        "_drained",
        "_gone",
        "_socket",
        "_wake",
        "_writer",
        "catching_up",
        "closed",
        "dialect",
        "fd",
        "held",
        "inbound_bytes",
        "outlet",
        "peak_bytes",
        "pending",
        "transport_bytes",
    )

    def __init__(self, outlet: Outlet, writer: Writer | None = None) -> None:
        self.outlet = outlet
        self.dialect: Dialect = HUB
        self.pending: list[Item] = []  # sent in this turn of the event loop
        self.catching_up: dict[str, object] = NOTHING  # what reads the history, by the client's name of the channel
        self.held = False
        self.fd = -1  # of the socket while nothing waits, so that the outlet can write to it directly; otherwise -1
        self.peak_bytes = 0  # the most that ever waited
        self.transport_bytes = 0  # given to the transport, and not taken by the socket yet
        self.inbound_bytes = 0  # received from the client, and incomplete or not carried out yet
        self.closed: tuple[int, str] | None = None  # code and reason, once the server wants the connection to end
        self._socket = -1
        self._writer = writer
        self._backlog: Backlog | None = None
        self._counted = 0  # the part of `held_bytes` that the outlet knows of
        self._gone = False  # the connection has ended
        self._wake: asyncio.Event | None = None  # wakes `Outbox.pump`
        self._drained: asyncio.Future[None] | None = None

    # In

    def put(self, item: Item) -> None:
        """Send an item at the end of this turn of the event loop."""
        pending = self.pending
        if pending:
            last = pending[-1]
            if type(last) is Batch:
                last.open = False  # what is added to that batch later would be sent before this item
        else:
            self.outlet.touch(self)
        pending.append(item)

    def send_first(self, payload: bytes) -> None:
        """Send a message of the dialect before everything that waits. Only while the queue is held."""
        self.flush()
        self._need_backlog().add_first(Message(payload, opcode=self.dialect.opcode))
        self._recount()

    def send_missed(self, batch: Batch) -> None:
        """Send what a client missed, before anything that is sent from now on."""
        self.flush()
        if self._backlog is None and self._writer is not None and not self.held:
            if not self._writer.write([batch]):
                self._need_backlog()
        else:
            self._need_backlog().add_missed(batch)
            self._recount()
            if self._wake is not None:
                self._wake.set()

    # Catching up

    def has_room_for(self, size: int) -> bool:
        """Return whether `size` bytes that the client missed may be sent now. If not, they are better left unread."""
        return self._backlog is None or self._backlog.bytes + size <= self.outlet.max_buffer_bytes // 2

    def catch_up(self, channel: str, reading: object) -> None:
        """Leave out new messages of a channel, until `caught_up`."""
        self.flush()
        self.catching_up[channel] = reading
        self.fd = -1

    def caught_up(self, channel: str) -> None:
        """Send new messages of a channel again."""
        if channel in self.catching_up:
            self.flush()
            del self.catching_up[channel]
            if not self.catching_up:
                self.writes_to(self._socket)

    def stop_catching_up(self) -> None:
        """End all catching up, because the client has gone or will not be connected."""
        self.catching_up.clear()
        self._notify_drained()

    # Accounting

    @property
    def blocked(self) -> bool:
        """True while messages wait in a backlog."""
        return self._backlog is not None

    @property
    def waiting_bytes(self) -> int:
        """The bytes that wait for the client."""
        return self.transport_bytes + (self._backlog.bytes if self._backlog is not None else 0)

    @property
    def held_bytes(self) -> int:
        """The bytes that this process holds because of the client, in both directions."""
        return self.waiting_bytes + self.inbound_bytes

    def in_transport(self, size: int) -> None:
        """Note how many of the written bytes wait in the transport."""
        self.transport_bytes = size
        self._recount()

    def inbound(self, change: int) -> None:
        """Count bytes from the client that are incomplete or not carried out yet; a negative `change` once they are."""
        self.inbound_bytes += change
        self._recount()

    def _recount(self) -> None:
        held = self.held_bytes if self.closed is None and not self._gone else 0
        change, self._counted = held - self._counted, held
        if held:
            self.outlet.add_held(self, change)
        else:
            self.outlet.remove_held(self, -change)

    # Out

    def writes_to(self, fd: int) -> None:
        """Let the outlet write to this socket directly while nothing waits. -1: not any more."""
        self._socket = fd
        self.fd = fd if self._backlog is None and not self.held and not self.catching_up else -1

    def flush(self, sent: int = 0) -> None:
        """Write what is pending, except for its first `sent` bytes, or move it to the backlog."""
        items = self.pending
        if not items:
            return
        if self._gone:
            items.clear()
            return
        if self.catching_up:
            items = self.pending = without_channels(items, self.catching_up)
            if not items:
                return
        if self._backlog is None and self._writer is not None and not self.held:
            if not self._writer.write(items, sent):
                self._need_backlog()
            items.clear()
            return
        self.pending = []
        backlog = self._need_backlog()
        fits = self.closed is not None or all([backlog.add(item) for item in items])  # noqa: C419 - each is added
        self._recount()
        if not fits:
            self.close_slow()
        if self._wake is not None:
            self._wake.set()

    def _need_backlog(self) -> Backlog:
        if self._backlog is None:
            self._backlog = Backlog(self.outlet.max_buffer_bytes)
            self.fd = -1
        return self._backlog

    def release(self) -> None:
        """End the time in which the queue is held, and send what waits."""
        self.held = False
        self.flush()
        if self._backlog is None:
            self._drop_backlog()
        elif self._writer is not None:
            self.drained()

    def drained(self) -> None:
        """Go on writing. Called when the socket takes more."""
        backlog = self._backlog
        if backlog is None or self.held or self._writer is None:
            return
        while backlog:
            items = backlog.take(CHUNK_BYTES, self.dialect)
            self._recount()
            if items and not self._writer.write(items):
                return
        self._drop_backlog()

    def _drop_backlog(self) -> None:
        if self._backlog is not None:
            self._backlog = None
            self._recount()
        if not self.held and not self.catching_up:
            self.fd = self._socket
        self._notify_drained()

    def _notify_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    async def until_drained(self) -> None:
        """Wait until the client has taken what waits for it, or is gone."""
        while self._backlog is not None and not self.held:
            await self._until_notified()

    async def until_takes_more(self) -> bool:
        """Wait until the client has taken what waits for it. Return False if it is gone or no longer catches up."""
        while self.catching_up and (self.held or self._backlog is not None):
            await self._until_notified()
        return bool(self.catching_up) and self.closed is None and not self._gone

    async def _until_notified(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drained)

    def close_slow(self) -> None:
        """Close the connection, because the client reads too slowly."""
        raise NotImplementedError

    def fail(self) -> None:
        """Close the connection because of a fault of the server."""
        raise NotImplementedError


NOTHING: dict[str, object] = {}
"""The channels of a queue whose client is not connected to the manager yet. Never added to."""
