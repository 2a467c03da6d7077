"""The clients of this worker that speak one dialect, by channel. This is the hot path.

What is sent to them is rendered once, and joined in batches of their own.
"""

import asyncio
from collections.abc import Collection, Iterator

from wsd.worker.delivery.batch import Batch, Message, SlowReaders
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire.channel_names import BROADCAST


class Audience:
    """The members of channels that speak one dialect. Empty groups are removed."""

    __slots__ = ("_batches", "_everyone", "_members", "_outlet", "dialect", "sent")

    def __init__(self, dialect: Dialect, outlet: Outlet) -> None:
        self.dialect = dialect
        self.sent = 0  # messages, counted once for each receiver
        self._outlet = outlet
        self._everyone: dict[Outbox, None] = {}  # the oldest first
        self._members: dict[str, set[Outbox]] = {}  # by channel
        self._batches: dict[str, Batch] = {}  # the newest of each channel, in this turn of the event loop

    def members(self, channel: str) -> set[Outbox]:
        """Return the members of a channel. A client is in BROADCAST from `add` on, which has no members here."""
        return self._members.get(channel, NOBODY)

    def receivers(self, channel: str) -> Collection[Outbox]:
        """Return those who get what is sent to a channel."""
        return self._everyone if channel == BROADCAST else self._members.get(channel, NOBODY)

    def channel_sizes(self) -> Iterator[tuple[str, int]]:
        return ((channel, len(members)) for channel, members in self._members.items())

    def add(self, outbox: Outbox) -> None:
        self._seal(BROADCAST)
        self._everyone[outbox] = None

    def remove(self, outbox: Outbox) -> None:
        self._seal(BROADCAST)
        self._everyone.pop(outbox, None)

    def join(self, outbox: Outbox, channel: str) -> None:
        self._seal(channel)
        self._members.setdefault(channel, set()).add(outbox)

    def leave(self, outbox: Outbox, channel: str) -> None:
        self._seal(channel)
        members = self._members.get(channel)
        if members is not None:
            members.discard(outbox)
            if not members:
                del self._members[channel]

    def send(self, channel: str, message: Message, policy: SlowReaders) -> None:
        """Send to all receivers of a channel.

        Messages that are sent within one turn of the event loop share one batch.
        """
        receivers = self._everyone if channel == BROADCAST else self._members.get(channel, NOBODY)
        self.sent += len(receivers)
        batch = self._batches.get(channel)
        if batch is not None and batch.open:
            batch.messages.append(message)
            return
        if not self._batches:
            asyncio.get_running_loop().call_soon(self._batches.clear)
        batch = self._batches[channel] = Batch(channel, policy, [message])
        idle = []
        for outbox in receivers:  # `SendQueue.put` is spelled out for outboxes with nothing pending, which are most
            if outbox.pending:
                outbox.put(batch)
            else:
                outbox.pending.append(batch)
                idle.append(outbox)
        self._outlet.touch_all(idle)

    def send_to_some(self, channel: str, message: Message, policy: SlowReaders, to: list[Outbox]) -> None:
        """Send to some of the receivers of a channel."""
        self._seal(channel)
        batch = Batch(channel, policy, [message])
        batch.open = False
        for outbox in to:
            outbox.put(batch)
        self.sent += len(to)

    def _seal(self, channel: str) -> None:
        """Close the channel's batch, because its receivers are about to change."""
        batch = self._batches.pop(channel, None)
        if batch is not None:
            batch.open = False


NOBODY: set[Outbox] = set()
"""The members of a channel that has none. Never added to."""
