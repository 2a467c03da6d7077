"""The recovery of clients that come back: what they missed is found in memory, or read from the history."""

import asyncio
import time

from msgspec import Struct

from wsd.worker.broker.history import Entry, HistoryQuery, Page
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


class Missed(Struct, frozen=True, gc=False):
    """The messages that a client missed right after its position: all of them, or the first page."""

    entries: tuple[Entry, ...]


class Recovery:
    """The search for messages that clients have missed."""

    def __init__(self, broker: MessageBroker, catch_up: CatchUp) -> None:
        self._broker = broker
        self._catch_up = catch_up

    async def find_missed(self, channel: Channel, since: Position, gives_up_at: float) -> Missed | Loss:
        """Return what a client has missed after `since`, or why that is lost.

        Waits for a Redis that is away until `gives_up_at`, by the monotonic clock. Nothing happens in the channel
        between the return and the next await of the caller.
        """
        while True:
            found = await self._try_to_find_missed(channel, since)
            if found is not Loss.UNAVAILABLE or time.monotonic() > gives_up_at:
                return found
            await asyncio.sleep(RETRY_SECONDS)
            if self._broker.healthy:
                await self._bring_up_to_date(channel)

    async def _try_to_find_missed(self, channel: Channel, since: Position) -> Missed | Loss:
        feed = channel.feed
        if feed is None:
            return Loss.NO_HISTORY
        async with channel.recovering:
            channel.shared.retain(feed)
            for _ in range(MAX_READS):
                match feed.recover(since):
                    case Recovered(entries):
                        return Missed(entries)
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
                            return feed.loss_before(page, since) or Missed(page.entries)
                        if (loss := feed.prepend(since, page)) is not None:
                            return loss
                    case Loss() as loss:
                        return loss
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
