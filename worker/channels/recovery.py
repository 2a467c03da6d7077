"""The recovery of clients that come back: what they missed is found in memory, or read from the history."""

import asyncio
import time

from msgspec import Struct

from wsd.worker.broker.history import Entry, HistoryQuery, Page, offset_of
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.catch_up import CatchUp
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.feed import Loss, ReadFirst, Recovered
from wsd.worker.errors import RedisFailure, RedisUnavailableError
from wsd.worker.wire.position import Position

RETRY_SECONDS = 0.1
"""How often a Redis that is away is asked again."""

MAX_READS = 10
"""Reads for one client that comes back. If they do not suffice, the channel is moving too fast for it."""


class AnyEpoch(Struct, frozen=True, gc=False):
    """The place after an offset, in whatever epoch the channel is."""

    offset: int


Wanted = Position | AnyEpoch | int
"""What a client asks for: all messages after its position, or this many of the newest."""


class Missed(Struct, frozen=True, gc=False):
    """The messages that a client still has to get right after a position: all of them, or the first page."""

    since: Position
    entries: tuple[Entry, ...]


class Recovery:
    """The search for messages that clients have missed."""

    def __init__(self, broker: MessageBroker, catch_up: CatchUp) -> None:
        self._broker = broker
        self._catch_up = catch_up

    async def find(self, channel: Channel, wanted: Wanted, gives_up_at: float) -> Missed | Loss:
        """Return what a client asks for, or why that is lost.

        Of the newest messages, the client gets those that the history has: fewer than it asks for are no loss.

        Waits for a Redis that is away until `gives_up_at`, by the monotonic clock. Nothing happens in the channel
        between the return and the next await of the caller.
        """
        while True:
            if isinstance(wanted, Position | AnyEpoch):
                found = await self._try_to_find_missed(channel, wanted)
            else:
                found = await self._try_to_find_newest(channel, wanted)
            if found is not Loss.UNAVAILABLE or time.monotonic() > gives_up_at:
                return found
            await asyncio.sleep(RETRY_SECONDS)
            if self._broker.healthy:
                await self._bring_up_to_date(channel)

    async def _try_to_find_missed(self, channel: Channel, wanted: Position | AnyEpoch) -> Missed | Loss:
        feed = channel.feed
        if feed is None:
            return Loss.NO_HISTORY
        async with channel.recovering:
            if isinstance(wanted, Position):
                since = wanted
            elif feed.position is None:
                return Loss.UNAVAILABLE
            else:
                since = Position(wanted.offset, feed.position.epoch)
            channel.shared.retain(feed)
            for _ in range(MAX_READS):
                match feed.recover(since):
                    case Recovered(entries):
                        return Missed(since, entries)
                    case ReadFirst(behind=True):
                        await self._bring_up_to_date(channel)
                        at = feed.position
                        if at is not None and feed.live and at.epoch == since.epoch and at.offset < since.offset:
                            return Loss.EPOCH_CHANGED  # the client has seen entries that this history never had
                    case ReadFirst():
                        try:
                            page = await self.read_after(channel, since.offset)
                        except RedisUnavailableError:
                            return Loss.UNAVAILABLE
                        if not feed.can_prepend(page):
                            page = feed.known_part(page)
                            return feed.loss_before(page, since) or Missed(since, page.entries)
                        if (loss := feed.prepend(since, page)) is not None:
                            return loss
                    case Loss() as loss:
                        return loss
            return Loss.UNAVAILABLE

    async def _try_to_find_newest(self, channel: Channel, count: int) -> Missed | Loss:
        feed = channel.feed
        if feed is None:
            return Loss.NO_HISTORY
        async with channel.recovering:
            begin = 0  # the offset before the first entry that the history still has, as far as it is known
            for _ in range(MAX_READS):
                channel.shared.retain(feed)
                since = feed.before_newest(count, begin)
                if since is None:
                    return Loss.UNAVAILABLE
                found = feed.recover(since)
                if isinstance(found, Recovered):
                    return Missed(since, found.entries)
                if not isinstance(found, ReadFirst):  # the epoch is changing
                    begin = 0
                    await self._bring_up_to_date(channel)
                    continue
                try:
                    page = await self.read_after(channel, since.offset)
                except RedisUnavailableError:
                    return Loss.UNAVAILABLE
                at = feed.position
                if at is None or page.top.epoch != at.epoch or at.epoch != since.epoch:
                    begin = 0
                    await self._bring_up_to_date(channel)
                    continue
                known = feed.run_of(feed.known_part(page))
                begin = offset_of(known.entries[0]) - 1 if known.entries else at.offset
                since = Position(max(begin, at.offset - count), at.epoch)
                if not feed.can_prepend(page):
                    return Missed(since, tuple(entry for entry in known.entries if offset_of(entry) > since.offset))
                feed.prepend(Position(begin, at.epoch), known)
            return Loss.UNAVAILABLE

    async def _bring_up_to_date(self, channel: Channel) -> None:
        self._catch_up.add(channel)
        await self._catch_up.wait_until_ready(channel)

    async def read_after(self, channel: Channel, offset: int) -> Page:
        """Return a page of the entries after an offset. Clients that come back together share it.

        Raises RedisUnavailableError.
        """
        page = channel.shared.page_after(offset)
        if page is None:
            [page] = await self._broker.read([HistoryQuery(channel.key, channel.retention, offset)])
            check_readable(page)
            channel.shared.add_page(offset, page)
        return page


def check_readable(page: Page) -> None:
    """Check that a page could be read.

    Raises RedisUnavailableError.
    """
    if page.problem:
        raise RedisUnavailableError(page.problem, RedisFailure.REJECTED)
