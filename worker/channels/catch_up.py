"""Bringing channels to the positions of their histories: channels are subscribed to, and missed entries are read.

Pages of many channels are read in one round trip: after Redis was away, or when a thousand clients connect at once.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.background.waiting import wait_at_most
from wsd.worker.broker.history import HistoryQuery
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.channels.channel import Channel
from wsd.worker.channels.member_messages import MemberMessages
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

CHECK_SECONDS = 40.0
"""How often each position is compared with that of the history. That finds a lost entry without a successor."""

BATCH_CHANNELS = 200
"""Channels read at once."""


class CatchUp:
    """Keeps the channels of this worker at the positions of their histories. `run` must run."""

    def __init__(
        self, broker: MessageBroker, channels: Mapping[str, Channel], members: MemberMessages, timeout: float
    ) -> None:
        """`channels`: all that are open, by name. `timeout`: seconds that `wait_until_ready` may take."""
        self.repaired = 0  # entries that were missed, and read
        self._broker = broker
        self._channels = channels
        self._members = members
        self._timeout = timeout
        self._behind: dict[str, Channel] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_repeatedly(self._catch_up, "channels: catching up"), name="catch-up")
            tasks.create_task(run_repeatedly(self._check_regularly, "channels: checking positions"), name="positions")

    def check_all(self) -> None:
        """Compare all positions with those of the histories, since something may have been missed."""
        for channel in self._channels.values():
            if channel.feed is not None or not channel.subscribed:
                self._behind[channel.name] = channel
        self._wake.set()

    def connected_anew(self) -> None:
        """Compare all positions before anything more is handed out: another server may lack what the old one had."""
        for channel in self._channels.values():
            if channel.feed is not None:
                channel.feed.doubt()
        self.check_all()

    def add(self, channel: Channel) -> None:
        """Bring a channel to its position. It is not ready until then."""
        channel.ready.clear()
        self._behind[channel.name] = channel
        self._wake.set()

    def remove(self, name: str) -> None:
        """Forget a channel that is closed."""
        self._behind.pop(name, None)

    async def wait_until_ready(self, channel: Channel) -> None:
        """Wait until a channel is at its position, or the timeout is over."""
        await wait_at_most(channel.ready, self._timeout)

    async def wait_until_all_are_ready(self) -> None:
        """Compare all positions, and wait until all channels are at theirs, as far as Redis answers."""
        self.check_all()
        for channel in list(self._behind.values()):
            channel.ready.clear()
            await self.wait_until_ready(channel)

    async def _check_regularly(self) -> None:
        was_healthy = False
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self.check_all()
            if was_healthy and self._broker.healthy:
                for channel in self._channels.values():
                    if channel.feed is not None:
                        channel.feed.forget_early()
            was_healthy = self._broker.healthy

    async def _catch_up(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._behind:
                names = [name for name, _ in zip(self._behind, range(BATCH_CHANNELS), strict=False)]
                batch = [self._behind.pop(name) for name in names]
                try:
                    await self._subscribe(batch)
                    await self._read_pages([channel for channel in batch if channel.feed is not None])
                except RedisUnavailableError as exc:
                    # All are checked when Redis is back.
                    logger.debug("histories cannot be read now: %s", exc)
                except Exception:
                    self._put_back(batch)
                    raise
                for channel in batch:
                    if channel.name not in self._behind:
                        channel.ready.set()

    def _put_back(self, batch: Iterable[Channel]) -> None:
        """Note that channels are still behind, those that are open. `run_repeatedly` tries them again."""
        self._behind.update({channel.name: channel for channel in batch if self._channels.get(channel.name) is channel})
        self._wake.set()

    async def _subscribe(self, batch: Iterable[Channel]) -> None:
        new = [channel for channel in batch if not channel.subscribed]
        if new:
            await self._broker.subscribe(*(channel.key for channel in new))
            for channel in new:
                channel.subscribed = True

    async def _read_pages(self, batch: Sequence[Channel]) -> None:
        """Read one page of each channel, and hand it out. Raises RedisUnavailableError."""
        if not batch:
            return
        feeds = [(channel, channel.feed) for channel in batch if channel.feed is not None]
        for _, feed in feeds:
            feed.reading()
        queries = [
            HistoryQuery(channel.key, channel.retention, feed.read_since, follows=True) for channel, feed in feeds
        ]
        pages = await self._broker.read(queries)
        for (channel, feed), page in zip(feeds, pages, strict=True):
            if page.problem:
                logger.warning("the history of %s cannot be read: %s", channel.label, page.problem)
                continue
            before = feed.position
            self._members.send(channel, feed.page(page))
            if before is not None and feed.position is not None and feed.position.epoch == before.epoch:
                self.repaired += feed.position.offset - before.offset
            if feed.rolled_back and before is not None:
                logger.error("the history of %s has lost messages that were sent, its epoch ends", channel.label)
                await self._broker.renew_epoch(channel.key, before.epoch)
                feed.renewed()
            if not feed.live:
                self.add(channel)
