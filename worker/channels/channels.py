"""The channels that have members on this worker: joined, heard, repaired when something was missed, and left.

`channel_feed` decides, this asks Redis and tells the members. What many channels lack is read in one round trip: after
Redis was away, say, or when a thousand clients connect at once.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from msgspec import Struct

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import PAGE_ENTRIES, AppendResult, Entry, HistoryQuery, Page, Retention, offset_of
from wsd.worker.broker.message_broker import MessageBroker, OnAppended
from wsd.worker.channels.feed import Advance, ChannelFeed, Deliver, Jump, Loss, ReadFirst, Recovered, Step
from wsd.worker.channels.options import NO_HISTORY, ChannelOptions, ChannelRules
from wsd.worker.containment import Containment, run_repeatedly
from wsd.worker.contract.redis_keys import DIRECT, USER_PREFIX, channel_key, channel_of
from wsd.worker.delivery.batch import Batch, Message
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import NotStoredError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import LOST, RedisError
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire import messages as wire
from wsd.worker.wire.position import Position

logger = get_logger(__name__)

CHECK_SECONDS = 40.0
"""How often each position is compared with the history's: it finds what was lost and had no successor."""

RETAIN_SECONDS = 2.0
"""How long what one client missed is kept for the next: they often come back together."""

BATCH_CHANNELS = 200

PATIENCE_SECONDS = 20.0
"""How long a client that comes back waits for Redis: a restart is shorter, and then nothing was lost."""

RETRY_SECONDS = 0.1

MAX_READS = 10
"""For one client that comes back; more than these and the channel is moving too fast for it."""

UNNUMBERED_PREFIX = "~"
"""Channels of applications that speak their own language: nothing is added to their messages."""


MAX_SHARED_BYTES = 2_097_152
"""What is read and encoded for one who comes back is kept for the next, up to so much of each channel."""


def _is_message(payload: bytes) -> bool:
    """Whether a position can be added to a payload, and no client is cut off for it."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return payload.startswith(b'{"') and payload.endswith(b"}")


def _readable(page: Page) -> Page:
    """Return a page that was read. Raises RedisError where it could not be."""
    if page.problem:
        raise RedisError(page.problem)
    return page


class Missed(Struct, frozen=True, gc=False):
    """What a client missed right after where it was: all, or the first page of it."""

    entries: tuple[Entry, ...]


class _Reading(Struct, frozen=True, gc=False):
    """What a client still lacks of a channel: all after `since`."""

    channel: "_Channel"
    since: Position


class Joined:
    """Where a new member stands: at `position` (None while Redis is away), with all after `since` or with a `loss`."""

    __slots__ = ("count", "loss", "position", "since")

    def __init__(self, position: Position | None, since: Position | None, count: int, loss: Loss | None) -> None:
        self.position = position
        self.since = since
        self.count = count
        self.loss = loss

    def state(self) -> wire.ChannelState:
        at = self.position
        state = wire.ChannelState(at.offset, at.epoch) if at is not None else wire.ChannelState()
        if self.since is not None:
            state.recovered = self.loss is None
            state.count = self.count if self.loss is None else None
            state.reason = None if self.loss is None else self.loss.value
        return state


class _Channel:
    def __init__(self, name: str, options: ChannelOptions, seen: SeenMessages) -> None:
        self.name = name
        self.key = channel_key(name)
        self.keep = Retention(options.history_size, options.history_ttl_seconds)
        self.options = options
        self.feed = ChannelFeed(seen) if options.history_size else None
        self.holders = 0  # who is about to join, and does not want it closed
        self.subscribed = False
        self.settled = asyncio.Event()  # subscribed, and at a position, as far as Redis answers
        self.recovering = asyncio.Lock()
        self.release: asyncio.TimerHandle | None = None
        # While entries are retained, for those who come back together:
        self.missed: dict[tuple[Entry, Entry, int], Batch] = {}
        self.pages: dict[int, Page] = {}  # by the offset that they follow

    @property
    def label(self) -> str:
        """What its members call it."""
        return DIRECT if self.name.startswith(USER_PREFIX) else self.name


K = TypeVar("K")
V = TypeVar("V")


def _keep_newest(kept: dict[K, V], size_of: Callable[[V], int]) -> None:
    """Forget the oldest beyond `MAX_SHARED_BYTES`; the newest stays whatever its size."""
    total = sum(map(size_of, kept.values()))
    while total > MAX_SHARED_BYTES and len(kept) > 1:
        total -= size_of(kept.pop(next(iter(kept))))


class Channels:
    """`run` must run."""

    def __init__(self, broker: MessageBroker, fanout: Fanout, rules: ChannelRules, timeout: float) -> None:
        """`timeout`: seconds that a member-to-be may wait for Redis."""
        self.lost: Counter[str] = Counter()  # times that members had to be told of a loss, by reason
        self.repaired = 0  # entries that were missed, and read
        self._broker = broker
        self._fanout = fanout
        self._rules = rules
        self._timeout = timeout
        self._seen = SeenMessages()
        self._channels: dict[str, _Channel] = {}
        self._behind: dict[str, _Channel] = {}
        self._wake = asyncio.Event()
        self._left_empty: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: asyncio.TaskGroup | None = None  # while it runs
        broker.on_entry = self._hear
        broker.on_hearing = self.check_all

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(run_repeatedly(self._catch_up_for_ever, "channels: catching up"), name="catch-up")
            tasks.create_task(run_repeatedly(self._check_for_ever, "channels: checking positions"), name="positions")
            tasks.create_task(run_repeatedly(self._unsubscribe_for_ever, "channels: unsubscribing"), name="unsubscribe")

    async def settle(self) -> None:
        """Wait until what is open is at its position, as far as Redis answers."""
        self.check_all()
        for channel in list(self._behind.values()):
            channel.settled.clear()
            await self._settled(channel)

    def options(self, name: str) -> ChannelOptions:
        if name.startswith(UNNUMBERED_PREFIX):
            return NO_HISTORY
        return self._rules.of(DIRECT if name.startswith(USER_PREFIX) else name)

    # Members

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Open a channel for who will join in a moment: what that needs is asked for meanwhile."""
        channel = self._opened(name)
        channel.holders += 1
        try:
            yield
        finally:
            channel.holders -= 1
            self._maybe_left_empty(channel)

    async def join(
        self,
        name: str,
        since: Position | None,
        add: Callable[[], None],
        announce: Callable[[Joined], None],
        outbox: Outbox,
        gives_up_at: float | None = None,
    ) -> None:
        """Make a client a member: `add` it, `announce` where it stands, then send it what it missed after `since`, in
        one moment, so that nothing comes between. `gives_up_at`: when Redis must be back, by the monotonic clock.

        What is too much for one page, or for the client now, is read as it takes it. Until then what is new is left to
        that reading, too, so that the order is kept and nothing gathers here.
        """
        with self.holding(name):
            channel = self._channels[name]
            await self._settled(channel)
            found = None
            if since is not None:
                found = await self._recover(channel, since, gives_up_at or time.monotonic() + PATIENCE_SECONDS)
            # From here on nothing waits.
            add()
            feed = channel.feed
            at, early = (feed.position, feed.early) if feed is not None else (None, ())
            loss = found if isinstance(found, Loss) else None
            entries = found.entries if isinstance(found, Missed) else ()
            behind = at.offset - since.offset if isinstance(found, Missed) and at is not None and since else 0
            announce(Joined(at, since, behind + len(early), loss))
            outbox.caught_up(channel.label)  # of an earlier position: this one counts
            reached = since
            if behind and self._send_missed(channel, entries, outbox):
                reached = entries[-1].position
            if behind and reached is not None and at is not None and reached.offset < at.offset:
                self._read_on(channel, reached, outbox)
            elif early:
                outbox.send_missed(self._missed(channel, early))

    def left(self, name: str) -> None:
        """Somebody is no member any more."""
        if (channel := self._channels.get(name)) is not None:
            self._maybe_left_empty(channel)

    def _opened(self, name: str) -> _Channel:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name, self.options(name), self._seen)
            self._fall_behind(channel)
        return channel

    def _maybe_left_empty(self, channel: _Channel) -> None:
        if not channel.holders and not self._fanout.members(channel.name):
            self._left_empty.put_nowait(channel.name)

    async def _unsubscribe_for_ever(self) -> None:
        """A worker hears only the channels that have members here."""
        while True:
            name = await self._left_empty.get()
            channel = self._channels.get(name)
            if channel is not None and not channel.holders and not self._fanout.members(name):
                del self._channels[name]
                self._behind.pop(name, None)
                if channel.release is not None:
                    channel.release.cancel()
                await self._broker.unsubscribe(channel.key)
                if name in self._channels:  # somebody came meanwhile
                    self._channels[name].subscribed = False
                    self._fall_behind(self._channels[name])

    # Messages

    def publish_soon(
        self,
        name: str,
        body: bytes,
        idempotency_key: str,
        told: OnAppended,
        on_stored: Callable[[Position], None] | None,
    ) -> None:
        """Store a message of a channel with history, and send it; see `MessageBroker.append_soon`."""

        def echo(stored: AppendResult | NotStoredError | None) -> None:
            if isinstance(stored, AppendResult) and stored.entry is not None and (channel := self._channels.get(name)):
                # It is stored, so members here get it, even if Redis goes away before we hear it from there.
                self._echo(channel, stored.entry)
            told(stored)

        options = self.options(name)
        keep = Retention(options.history_size, options.history_ttl_seconds, idempotency_key)
        self._broker.append_soon(channel_key(name), body, keep, echo, on_stored)

    async def history(self, name: str, since: int, count: int, *, max_bytes: int, reverse: bool) -> Page:
        """Raises one of LOST."""
        options = self.options(name)
        keep = Retention(options.history_size, options.history_ttl_seconds)
        async with asyncio.timeout(self._timeout):
            wanted = HistoryQuery(channel_key(name), keep, since, count, reverse, max_bytes=max_bytes)
            [page] = await self._broker.read([wanted])
        return _readable(page)

    def has_handed_out(self, name: str, at: Position) -> bool:
        """Whether members here can have seen all up to this position."""
        channel = self._channels.get(name)
        last = channel.feed.position if channel is not None and channel.feed is not None else None
        return last is not None and at.epoch == last.epoch and at.offset <= last.offset

    @staticmethod
    def payload(entry: Entry, label: str) -> bytes:
        """Return an entry's message, as clients get it. What no worker wrote becomes a message without data."""
        payload = entry.payload
        if not _is_message(payload):
            payload = wire.encode(wire.Message(channel=label, data=None))
        if entry.position is None:
            return payload
        return b'%s,"offset":%d,"epoch":"%s"}' % (payload[:-1], entry.position.offset, entry.position.epoch.encode())

    def _message(self, entry: Entry, label: str) -> Message:
        return Message(self.payload(entry, label), entry.position)

    def _missed(self, channel: _Channel, entries: Sequence[Entry]) -> Batch:
        """For one who comes back; those who come back with it have often missed the same."""
        key = (entries[0], entries[-1], len(entries))
        batch = channel.missed.get(key)
        if batch is None:
            batch = Batch(channel.label, "close_and_resume", [self._message(entry, channel.label) for entry in entries])
            if channel.release is not None:  # else nobody would take it away
                channel.missed[key] = batch
                _keep_newest(channel.missed, lambda kept: len(kept.sealed()))
        return batch

    def _send_missed(self, channel: _Channel, entries: Sequence[Entry], outbox: Outbox) -> bool:
        """Send a page, unless so much waits for the client already that it had better be read later."""
        if not entries or not outbox.takes(sum(len(entry.payload) for entry in entries)):
            return False
        outbox.send_missed(self._missed(channel, entries))
        return True

    def _hear(self, key: str, entry: Entry) -> None:
        channel = self._channels.get(channel_of(key))
        if channel is None or channel.feed is None:
            return
        self._tell(channel, channel.feed.hear(entry))
        if not channel.feed.live:
            self._fall_behind(channel)

    def _echo(self, channel: _Channel, entry: Entry) -> None:
        if channel.feed is not None:
            self._tell(channel, channel.feed.echo(entry))

    def _tell(self, channel: _Channel, steps: Sequence[Step]) -> None:
        for number, step in enumerate(steps):
            match step:
                case Deliver(entry):
                    policy = channel.options.slow_readers
                    self._fanout.send_to_members(
                        channel.name, channel.label, self._message(entry, channel.label), policy
                    )
                case Advance(entry):
                    if number + 1 < len(steps) and isinstance(steps[number + 1], Advance):
                        continue
                    at = entry.position
                    assert at is not None
                    self._tell_members(channel, wire.PositionNotice(channel.label, at.offset, at.epoch))
                case Jump(at, reason):
                    if self._tell_members(channel, wire.Gap(channel.label, reason.value, at.offset, at.epoch)):
                        self.lost[reason] += 1
                        logger.warning("members of %s are told of a loss: %s", channel.label, reason)

    def _tell_members(self, channel: _Channel, notice: Struct) -> bool:
        """Whether there are any."""
        return self._fanout.send_to_members(channel.name, channel.label, Message(wire.encode(notice)))

    # Repair

    def check_all(self) -> None:
        """Compare all positions with the histories': something may have been missed."""
        for channel in self._channels.values():
            if channel.feed is not None or not channel.subscribed:
                self._behind[channel.name] = channel
        self._wake.set()

    def _fall_behind(self, channel: _Channel) -> None:
        channel.settled.clear()
        self._behind[channel.name] = channel
        self._wake.set()

    async def _settled(self, channel: _Channel) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await channel.settled.wait()

    async def _check_for_ever(self) -> None:
        was_healthy = False
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check_all()
            if was_healthy and self._broker.healthy:
                for channel in self._channels.values():
                    if channel.feed is not None:
                        channel.feed.forget_early()
            was_healthy = self._broker.healthy

    async def _catch_up_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._behind:
                names = [name for name, _ in zip(self._behind, range(BATCH_CHANNELS), strict=False)]
                batch = [self._behind.pop(name) for name in names]
                try:
                    await self._subscribe(batch)
                    await self._catch_up([channel for channel in batch if channel.feed is not None])
                except LOST as exc:
                    # All are checked when Redis is back.
                    raise_if_cancelled()
                    logger.debug("histories cannot be read now: %s", exc)
                for channel in batch:
                    if channel.name not in self._behind:
                        channel.settled.set()

    async def _subscribe(self, batch: Iterable[_Channel]) -> None:
        new = [channel for channel in batch if not channel.subscribed]
        if new:
            await self._broker.subscribe(*(channel.key for channel in new))
            for channel in new:
                channel.subscribed = True

    async def _catch_up(self, batch: Sequence[_Channel]) -> None:
        """One page of each. Raises one of LOST."""
        if not batch:
            return
        feeds = [(channel, channel.feed) for channel in batch if channel.feed is not None]
        for _, feed in feeds:
            feed.reading()
        pages = await self._broker.read(
            [HistoryQuery(c.key, c.keep, feed.wanted_since, follows=True) for c, feed in feeds]
        )
        for (channel, feed), page in zip(feeds, pages, strict=True):
            if page.problem:
                logger.warning("the history of %s cannot be read: %s", channel.label, page.problem)
                continue
            was = feed.position
            self._tell(channel, feed.page(page))
            if was is not None and feed.position is not None and feed.position.epoch == was.epoch:
                self.repaired += feed.position.offset - was.offset
            if feed.rolled_back and was is not None:
                logger.error("the history of %s has lost messages that were sent, its epoch ends", channel.label)
                await self._broker.renew_epoch(channel.key, was.epoch)
                feed.renewed()
            if not feed.live:
                self._fall_behind(channel)

    # Clients that come back

    async def _recover(self, channel: _Channel, since: Position, gives_up_at: float) -> Missed | Loss:
        """What a client has missed. After its return nothing has happened in the channel until the caller waits."""
        while True:
            found = await self._try_to_recover(channel, since)
            if found is not Loss.UNAVAILABLE or time.monotonic() > gives_up_at:
                return found
            await asyncio.sleep(RETRY_SECONDS)
            if self._broker.healthy:
                self._fall_behind(channel)
                await self._settled(channel)

    async def _try_to_recover(self, channel: _Channel, since: Position) -> Missed | Loss:
        feed = channel.feed
        if feed is None:
            return Loss.NO_HISTORY
        async with channel.recovering:  # one reads, the others find it read
            self._retain(channel, feed)
            for _ in range(MAX_READS):
                match feed.recover(since):
                    case Recovered(entries):
                        return Missed(entries)
                    case ReadFirst(behind=True):
                        self._fall_behind(channel)
                        await self._settled(channel)
                        at = feed.position
                        if at is not None and feed.live and at.epoch == since.epoch and at.offset < since.offset:
                            return Loss.EPOCH_CHANGED  # it has seen what this history never had
                    case ReadFirst():
                        try:
                            page = await self._read_after(channel, since.offset)
                        except LOST:
                            raise_if_cancelled()
                            return Loss.UNAVAILABLE
                        if not feed.can_prepend(page):
                            page = feed.known_of(page)
                            return feed.follows(since, page) or Missed(page.entries)
                        if (loss := feed.prepend(since, page)) is not None:
                            return loss
                    case Loss() as loss:
                        return loss
            return Loss.UNAVAILABLE

    async def _read_after(self, channel: _Channel, offset: int) -> Page:
        """A page of the entries after an offset; those who come back together share it. Raises one of LOST."""
        page = channel.pages.get(offset)
        if page is None:
            [page] = await self._broker.read([HistoryQuery(channel.key, channel.keep, offset)])
            _readable(page)
            if page.more or len(page.entries) == PAGE_ENTRIES:  # else it may grow
                channel.pages[offset] = page
                _keep_newest(channel.pages, lambda kept: sum(len(entry.payload) for entry in kept.entries))
        return page

    # Clients that have more to read than one page

    def _read_on(self, channel: _Channel, since: Position, outbox: Outbox) -> None:
        is_first = not outbox.catching_up
        outbox.catch_up(channel.label, _Reading(channel, since))
        if is_first:
            assert self._tasks is not None
            self._tasks.create_task(self._read_for(outbox), name=f"history for {outbox.session_id}")

    async def _read_for(self, outbox: Outbox) -> None:
        """Read what a client lacks, page by page, as it takes it."""
        with Containment("reading a history for a client", outbox):
            while await outbox.until_takes_more():
                label, reading = next(iter(outbox.catching_up.items()))
                assert isinstance(reading, _Reading)
                channel = reading.channel
                try:
                    async with channel.recovering:
                        if channel.feed is not None:
                            self._retain(channel, channel.feed)
                        page = await self._read_after(channel, reading.since.offset)
                except LOST:
                    raise_if_cancelled()
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                # From here on nothing waits.
                if outbox.catching_up.get(label) is reading:
                    self._send_page(channel, reading.since, page, outbox)

    def _send_page(self, channel: _Channel, since: Position, page: Page, outbox: Outbox) -> None:
        feed = channel.feed
        at = feed.position if feed is not None else None
        if feed is None or at is None:
            outbox.caught_up(channel.label)
            return
        page = feed.known_of(page)
        entries = page.entries
        loss = feed.follows(since, page)
        if loss is not None:  # it was there when the client came, and is not any more
            trimmed = loss is Loss.TRIMMED
            since = Position(offset_of(entries[0]) - 1, at.epoch) if trimmed else at
            entries = entries if trimmed else ()
            self.lost[loss] += 1
            notice = wire.Gap(channel.label, loss.value, since.offset, since.epoch)
            outbox.send_missed(Batch(channel.label, "close_and_resume", [Message(wire.encode(notice))]))
        if entries:
            outbox.send_missed(self._missed(channel, entries))
            since = entries[-1].position or since
        if since.offset < at.offset:
            outbox.catching_up[channel.label] = _Reading(channel, since)
            return
        if feed.early:
            outbox.send_missed(self._missed(channel, feed.early))
        outbox.caught_up(channel.label)

    def _retain(self, channel: _Channel, feed: ChannelFeed) -> None:
        def release() -> None:
            feed.release()
            channel.missed.clear()
            channel.pages.clear()
            channel.release = None

        feed.retain()
        if channel.release is not None:
            channel.release.cancel()
        channel.release = asyncio.get_running_loop().call_later(RETAIN_SECONDS, release)
