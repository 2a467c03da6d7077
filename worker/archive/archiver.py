"""The job of the relay that writes the messages of marked channels to the archive."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from wsd.worker.archive.batches import Batch, Cursor, batch_of, is_archivable
from wsd.worker.archive.marks import MarkBook
from wsd.worker.archive.table import ArchiveTable, Key
from wsd.worker.broker.history import PAGE_ENTRIES, HistoryQuery, Page, Retention
from wsd.worker.broker.redis_history import RedisHistory
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.redis_keys import ARCHIVE_KEY, channel_key
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.locked_job import LockedJob
from wsd.worker.logs import get_logger
from wsd.worker.postgres import Session
from wsd.worker.redis_client import Redis, redis_errors

logger = get_logger(__name__)

ROUND_SECONDS = 0.25
"""How often the marks are read."""

CHANNELS = 50
"""How many channels are read and written at once: up to 13 MB of messages."""

PAGES = 20
"""How many pages of a channel are written before the other channels have their turn."""

UNMARK_SCRIPT = """
local removed = 0
for i = 1, #ARGV, 2 do
    local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
    if score and tonumber(score) == tonumber(ARGV[i + 1]) then
        removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
return removed
"""
"""Remove marks that were not renewed. KEYS the marks. ARGV pairs of a channel and the score that its mark had."""

NO_RETENTION = Retention(0, 0.0)
"""What a query names that begins no epoch."""


class Archiver(LockedJob):
    """Writes messages to the archive. Of all relays on the table, the one that holds its lock does so."""

    def __init__(self, url: str, table_name: str, redis: Redis, timeout: float) -> None:
        """`url` must be one at which a connection to PostgreSQL is a session of its own.

        `timeout` is how many seconds a request to Redis may take.
        """
        super().__init__(
            url,
            f"wsd archive {table_name}",
            does=f"writes messages to {table_name}",
            cannot="cannot archive",
            again="archives again",
        )
        self.status = RelayStatus(archive=True)  # only its fields of the archive
        self._table = ArchiveTable(table_name)
        self._redis = redis
        self._history = RedisHistory(redis, timeout)
        self._timeout = timeout

    async def _work(self, session: Session) -> None:
        """Write what is there and what comes. Raises PostgresUnavailableError."""
        book = MarkBook()
        while True:
            began = time.monotonic()
            try:
                await self._round(session, book)
            except RedisUnavailableError as exc:
                self._failed(f"Redis: {exc}", active=True)
                await self._pause()
            else:
                self._works(active=True)
                await asyncio.sleep(max(0.0, ROUND_SECONDS - (time.monotonic() - began)))

    async def _round(self, session: Session, book: MarkBook) -> None:
        """Read all channels that are due, once. Raises PostgresUnavailableError, RedisUnavailableError."""
        async with redis_errors(self._timeout):
            marks: Any = await self._redis.zrange(ARCHIVE_KEY, 0, -1, withscores=True)
        now = time.monotonic()
        scores = {channel.decode(errors="replace"): int(score) for channel, score in marks}
        due = iter(book.to_read({c: score for c, score in scores.items() if is_archivable(c)}, now))
        self._count(book)
        while channels := list(islice(due, CHANNELS)):
            for channel, began in (await self._catch_up(session, channels)).items():
                book.note_read(channel, began)
            self._count(book)
        await self._unmark(book.settled())

    async def _catch_up(self, session: Session, channels: Sequence[str]) -> dict[str, float]:
        """Write all that is new in channels. Return when the last read of each began."""
        known = await self._table.cursors(session, channels)
        cursors = {channel: (epoch, cursor) for (channel, epoch), cursor in known.items()}
        done: dict[str, float] = {}
        left = list(channels)
        for _ in range(PAGES):
            if not left:
                break
            began = time.monotonic()
            pages = dict(zip(left, await self._read(left, cursors), strict=True))
            unreadable = {channel: page.problem for channel, page in pages.items() if page.problem}
            for channel, problem in unreadable.items():
                logger.warning("cannot archive %s: %s", channel, problem)
            written = await self._write(session, {c: page for c, page in pages.items() if page.top.epoch})
            cursors.update({channel: (epoch, cursor) for (channel, epoch), cursor in written.items()})
            left = [channel for channel, page in pages.items() if not _is_whole(page)]
            done.update({channel: began for channel, page in pages.items() if _is_whole(page)})
        return done

    async def _read(self, channels: Sequence[str], cursors: dict[str, tuple[str, Cursor]]) -> list[Page]:
        """Read what is new in channels, as far as one page holds it."""
        pages = await self._history.read([self._query(c, cursors[c][1] if c in cursors else None) for c in channels])
        # An epoch that is not that of the cursor is read from its beginning.
        changed = [
            number
            for number, (channel, page) in enumerate(zip(channels, pages, strict=True))
            if channel in cursors and page.top.epoch not in ("", cursors[channel][0])
        ]
        if changed:
            again = await self._history.read([self._query(channels[number], None) for number in changed])
            for number, page in zip(changed, again, strict=True):
                pages[number] = page
        return pages

    @staticmethod
    def _query(channel: str, cursor: Cursor | None) -> HistoryQuery:
        return HistoryQuery(channel_key(channel), NO_RETENTION, since=cursor.archived_to if cursor is not None else 0)

    async def _write(self, session: Session, pages: dict[str, Page]) -> dict[Key, Cursor]:
        """Write pages in one transaction. Return how far each epoch is archived now."""
        if not pages:
            return {}
        keys: list[Key] = [(channel, page.top.epoch) for channel, page in sorted(pages.items())]
        batches: dict[Key, tuple[Cursor, Batch]] = {}
        async with session.transaction():
            cursors = await self._table.locked(session, keys)
            for key in keys:
                page = pages[key[0]]
                batches[key] = cursors[key], batch_of(page, cursors[key], is_whole=_is_whole(page))
            await self._table.write(session, batches)
        for (channel, _), (_, batch) in batches.items():
            if batch.lost:
                text = "%d messages of %s were forgotten by Redis before they were archived"
                logger.warning(text, batch.lost, channel, extra=EVENT)
        self.status = replace(
            self.status,
            archived=self.status.archived + sum(len(batch.entries) for _, batch in batches.values()),
            archive_lost=self.status.archive_lost + sum(batch.lost for _, batch in batches.values()),
        )
        return {key: Cursor(cursor.run, batch.archived_to) for key, (cursor, batch) in batches.items()}

    async def _unmark(self, marks: dict[str, int]) -> None:
        """Remove marks, unless they were renewed."""
        pairs = iter([text for pair in marks.items() for text in pair])
        while some := list(islice(pairs, 2 * 500)):
            async with redis_errors(self._timeout):
                await self._redis.eval(UNMARK_SCRIPT, 1, ARCHIVE_KEY, *some)

    def _count(self, book: MarkBook) -> None:
        unread = book.unread()
        oldest = max(0.0, time.time() - min(unread) / 1_000_000) if unread else 0.0
        self.status = replace(self.status, archive_waiting=len(unread), archive_oldest_seconds=oldest)

    def _show(self, *, active: bool, problem: str) -> None:
        self.status = replace(self.status, archive_active=active, archive_problem=problem)


def _is_whole(page: Page) -> bool:
    """Tell whether a page goes up to the newest message."""
    return not page.more and len(page.entries) < PAGE_ENTRIES
