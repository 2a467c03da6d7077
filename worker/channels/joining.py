"""Clients that become members of a channel, and are sent what they missed as fast as they take it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from wsd.worker.background.containment import Containment
from wsd.worker.broker.history import Entry, Page, offset_of
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.feed import Loss
from wsd.worker.channels.member_messages import MemberMessages, entry_message, gap_message, position_message
from wsd.worker.channels.open_channels import OpenChannels
from wsd.worker.channels.recovery import RETRY_SECONDS, Missed, Recovery, Wanted
from wsd.worker.delivery.batch import Batch, Message
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.wire import messages as wire
from wsd.worker.wire.exclusion import mark_in, mark_of, tail_of
from wsd.worker.wire.position import Position

PATIENCE_SECONDS = 20.0
"""How long a client that comes back waits for Redis. A restart is shorter, and then nothing was lost."""


class Joined:
    """The place of a new member in a channel.

    `position` is that of the channel, None while Redis is away. `recovered` says whether the member gets what it asked
    for: `count` messages follow then, and otherwise there is a `loss`. It is None if there was nothing to ask for.
    """

    __slots__ = ("count", "loss", "position", "recovered")

    def __init__(self, position: Position | None, recovered: bool | None, count: int, loss: Loss | None) -> None:
        self.position = position
        self.recovered = recovered
        self.count = count
        self.loss = loss

    def state(self) -> wire.ChannelState:
        """Return the place as the wire describes it."""
        at = self.position
        state = wire.ChannelState(at.offset, at.epoch) if at is not None else wire.ChannelState()
        if self.recovered is not None:
            state.recovered = self.recovered
            state.count = self.count if self.recovered else None
            state.reason = self.loss.value if self.loss is not None else None
        return state


class _Reading(Struct, frozen=True, gc=False):
    """The rest of a channel that a client still has to get: all entries after `since`."""

    channel: Channel
    since: Position


class Joining:
    """Makes clients members of channels. `run` must run."""

    def __init__(self, open_channels: OpenChannels, recovery: Recovery, members: MemberMessages) -> None:
        self._open = open_channels
        self._recovery = recovery
        self._members = members
        self._tasks: asyncio.TaskGroup | None = None  # while it runs

    async def run(self) -> None:
        """Own the tasks that read histories for clients, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.get_running_loop().create_future()

    async def join(
        self,
        name: str,
        wanted: Wanted | None,
        add: Callable[[], None],
        announce: Callable[[Joined], None],
        outbox: Outbox,
        gives_up_at: float | None = None,
    ) -> None:
        """Make a client a member of a channel, and send it what it asks for of the earlier messages.

        `add` makes it a member and `announce` tells it where it stands. Both are called, and what it missed is sent,
        without an await between them, so that no new message comes between. `gives_up_at`: when Redis must be back, by
        the monotonic clock.

        Where it missed more than a page, or more than it takes now, the rest is read as the client takes it. Until then
        it gets new messages by that reading, too, so that the order is kept and nothing gathers here.
        """
        with self._open.holding(name) as channel:
            await self._open.wait_until_ready(channel)
            found = None
            if wanted is not None:
                patience_ends_at = gives_up_at or time.monotonic() + PATIENCE_SECONDS
                found = await self._recovery.find(channel, wanted, patience_ends_at)
            # From here on nothing is awaited.
            add()
            feed = channel.feed
            at, early = (feed.position, feed.early) if feed is not None else (None, ())
            loss = found if isinstance(found, Loss) else None
            since, entries = (found.since, found.entries) if isinstance(found, Missed) else (None, ())
            if isinstance(wanted, int) and since is not None:
                since, entries = _not_beyond(outbox.catching_up.get(channel.name), since, entries)
            behind = at.offset - since.offset if at is not None and since is not None else 0
            recovered = None if found is None else loss is None
            if isinstance(wanted, int) and loss is Loss.NO_HISTORY:
                recovered = loss = None  # there are no earlier messages that a client could miss
            if loss is not None:
                self._members.lost[loss] += 1
            announce(Joined(at, recovered, behind + len(early), loss))
            outbox.caught_up(channel.name)  # of an earlier position: this one counts
            reached = since
            if behind and self._send_first_page(channel, entries, outbox):
                reached = entries[-1].position
            if behind and reached is not None and at is not None and reached.offset < at.offset:
                self._read_on(channel, reached, outbox)
            elif early:
                self._send_missed(channel, early, outbox)

    def _send_missed(self, channel: Channel, entries: Sequence[Entry], outbox: Outbox) -> None:
        dialect = outbox.dialect
        own = mark_of(outbox.session_id)
        tail = tail_of(own)  # quick to look for; the mark itself counts
        if any(entry.payload.endswith(tail) for entry in entries):
            batch = _encode_without(channel, entries, own, dialect)
        else:
            batch = channel.shared.batch(dialect, entries, lambda: _encode(channel, entries, dialect))
        if batch.messages:
            outbox.send_missed(batch)

    def _send_first_page(self, channel: Channel, entries: Sequence[Entry], outbox: Outbox) -> bool:
        """Send a page, unless so much waits for the client already that the page had better be read later.

        Return whether it was sent.
        """
        if not entries or not outbox.has_room_for(sum(len(entry.payload) for entry in entries)):
            return False
        self._send_missed(channel, entries, outbox)
        return True

    def _read_on(self, channel: Channel, since: Position, outbox: Outbox) -> None:
        """Read and send all after `since`, page by page, as the client takes it."""
        is_first = not outbox.catching_up
        outbox.catch_up(channel.name, _Reading(channel, since))
        if is_first:
            assert self._tasks is not None
            self._tasks.create_task(self._read_for(outbox), name=f"history for {outbox.session_id}")

    async def _read_for(self, outbox: Outbox) -> None:
        with Containment("reading a history for a client", outbox):
            while await outbox.until_takes_more():
                label, reading = next(iter(outbox.catching_up.items()))
                assert isinstance(reading, _Reading)
                channel = reading.channel
                try:
                    async with channel.recovering:
                        if channel.feed is not None:
                            channel.shared.retain(channel.feed)
                        page = await self._recovery.read_after(channel, reading.since.offset)
                except RedisUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                # From here on nothing is awaited.
                if outbox.catching_up.get(label) is reading:
                    self._send_page(channel, reading.since, page, outbox)

    def _send_page(self, channel: Channel, since: Position, page: Page, outbox: Outbox) -> None:
        feed = channel.feed
        at = feed.position if feed is not None else None
        if feed is None or at is None:
            outbox.caught_up(channel.name)
            return
        page = feed.known_part(page)
        entries = page.entries
        loss = feed.loss_before(page, since)
        if loss is not None:  # the entries were there when the client came, and are not any more
            trimmed = loss is Loss.TRIMMED
            since = Position(offset_of(entries[0]) - 1, at.epoch) if trimmed else at
            entries = entries if trimmed else ()
            self._members.lost[loss] += 1
            if (notice := gap_message(since, loss.value, channel.name, outbox.dialect)) is not None:
                outbox.send_missed(_batch(channel, [notice]))
        if entries:
            self._send_missed(channel, entries, outbox)
            since = entries[-1].position or since
        if since.offset < at.offset:
            outbox.catching_up[channel.name] = _Reading(channel, since)
            return
        if feed.early:
            self._send_missed(channel, feed.early, outbox)
        outbox.caught_up(channel.name)


def _not_beyond(reading: object, since: Position, entries: tuple[Entry, ...]) -> tuple[Position, tuple[Entry, ...]]:
    """Return where to begin for a member that asks for the newest messages while it is still sent older ones.

    What it has not been sent yet comes before the newest messages: a member must not miss it without being told.
    """
    if isinstance(reading, _Reading) and reading.since.epoch == since.epoch and reading.since.offset < since.offset:
        return reading.since, ()
    return since, entries


def _encode_without(channel: Channel, entries: Sequence[Entry], mark: str, dialect: Dialect) -> Batch:
    """Return the batch for the session with a mark: of an entry that it does not get, only the position."""
    return _batch(
        channel,
        (
            position_message(entry, channel.name, dialect)
            if mark_in(entry.payload) == mark
            else entry_message(entry, channel.name, dialect)
            for entry in entries
        ),
    )


def _encode(channel: Channel, entries: Sequence[Entry], dialect: Dialect) -> Batch:
    return _batch(channel, (entry_message(entry, channel.name, dialect) for entry in entries))


def _batch(channel: Channel, messages: Iterable[Message | None]) -> Batch:
    """Return the batch of the messages that the dialect of a client has. Nothing of it is ever dropped."""
    return Batch(channel.name, "close_and_resume", [message for message in messages if message is not None])
