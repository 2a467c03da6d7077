"""The state of one channel on this worker, and the reads that clients which come back together share."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import PAGE_ENTRIES, Entry, Page, Retention
from wsd.worker.channels.feed import ChannelFeed
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.delivery.batch import Batch
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire.channel_names import label_of

RETAIN_SECONDS = 2.0
"""How long what one client missed is kept for the next. Clients often come back together."""

MAX_SHARED_BYTES = 2_097_152
"""Pages, and encoded batches, that are kept of each channel for the next client."""

K = TypeVar("K")
V = TypeVar("V")


class SharedReads:
    """Pages and encoded batches that clients which come back together share. They are kept for a moment."""

    __slots__ = ("_batches", "_pages", "_release")

    def __init__(self) -> None:
        self._batches: dict[tuple[Dialect, Entry, Entry, int], Batch] = {}
        self._pages: dict[int, Page] = {}  # by the offset that they follow
        self._release: asyncio.TimerHandle | None = None  # while anything is kept

    def retain(self, feed: ChannelFeed) -> None:
        """Keep what is read from now on, and what the feed hands out, until RETAIN_SECONDS after the last call."""
        feed.retain()
        self.cancel()
        self._release = asyncio.get_running_loop().call_later(RETAIN_SECONDS, self._forget, feed)

    def cancel(self) -> None:
        """Stop the timer, since the channel is closed or the time begins anew."""
        if self._release is not None:
            self._release.cancel()

    def _forget(self, feed: ChannelFeed) -> None:
        feed.release()
        self._batches.clear()
        self._pages.clear()
        self._release = None

    def batch(self, dialect: Dialect, entries: Sequence[Entry], encode: Callable[[], Batch]) -> Batch:
        """Return the batch of some entries, encoded once for all clients of a dialect that have missed the same."""
        key = (dialect, entries[0], entries[-1], len(entries))
        batch = self._batches.get(key)
        if batch is None:
            batch = encode()
            if self._release is not None:  # otherwise nothing would forget it
                self._batches[key] = batch
                _keep_newest(self._batches, lambda kept: len(kept.sealed()))
        return batch

    def page_after(self, offset: int) -> Page | None:
        return self._pages.get(offset)

    def add_page(self, offset: int, page: Page) -> None:
        """Keep a page that was read after an offset, unless it may still grow."""
        if page.more or len(page.entries) == PAGE_ENTRIES:
            self._pages[offset] = page
            _keep_newest(self._pages, lambda kept: sum(len(entry.payload) for entry in kept.entries))


class Channel:
    """A channel that has members on this worker, or is about to have some."""

    # Each connected user has such a channel of its own, so that memory counts.
    __slots__ = (
        "feed",
        "holders",
        "key",
        "label",
        "name",
        "options",
        "ready",
        "recovering",
        "retention",
        "shared",
        "subscribed",
    )

    def __init__(self, name: str, options: ChannelOptions, seen: SeenMessages) -> None:
        self.name = name
        self.key = channel_key(name)
        self.label = label_of(name)  # the name in logs
        self.options = options
        self.retention = retention_of(options)
        self.feed = ChannelFeed(seen) if options.history_size else None
        self.holders = 0  # clients that are about to join, and need the channel open
        self.subscribed = False
        self.ready = asyncio.Event()  # subscribed, and at a position, as far as Redis answers
        self.recovering = asyncio.Lock()  # held by the one client that reads; the others then find what it read
        self.shared = SharedReads()


def retention_of(options: ChannelOptions) -> Retention:
    return Retention(options.history_size, options.history_ttl_seconds, archived=options.archive)


def _keep_newest(kept: dict[K, V], size_of: Callable[[V], int]) -> None:
    """Forget the oldest beyond MAX_SHARED_BYTES. The newest stays whatever its size."""
    total = sum(map(size_of, kept.values()))
    while total > MAX_SHARED_BYTES and len(kept) > 1:
        total -= size_of(kept.pop(next(iter(kept))))
