"""The archive as workers read it: within a time limit, and not at all for a while after it did not answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from wsd.worker.archive.batches import is_archivable
from wsd.worker.archive.pages import Archived, Span
from wsd.worker.archive.table import ArchiveTable, Stock
from wsd.worker.errors import ArchiveUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.postgres import Pool, PostgresUnavailableError, Session
from wsd.worker.wire.position import Position

logger = get_logger(__name__)

CONNECTIONS = 3
"""The most connections of a worker to PostgreSQL."""

READ_SECONDS = 2.0
"""How long a page may take."""

DELETE_SECONDS = 20.0
"""How long the deletion of a channel may take."""

OPERATOR_SECONDS = 4.5
"""How long a request of an operator may take. The supervisor waits for 5 seconds."""

REST_SECONDS = 2.0
"""How long PostgreSQL is not asked again after it did not answer."""


class ArchiveReader:
    """Reads the archive, and deletes from it."""

    def __init__(self, url: str, table: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is connected before the archive is needed. `clock` returns seconds."""
        self._table = ArchiveTable(table)
        self._pool = Pool(url, CONNECTIONS, READ_SECONDS)
        self._clock = clock
        self._ask_again_at = 0.0

    async def read(self, channel: str, span: Span) -> Archived:
        """Return what the archive has of a part of an epoch. Raises ArchiveUnavailableError."""
        if not is_archivable(channel):
            return Archived()
        async with self._asking(READ_SECONDS) as session:
            return await self._table.read(session, channel, span)

    async def delete(self, channel: str, top: Position) -> None:
        """Delete the messages of a channel up to its newest position in Redis, also those that are still to come here.

        All are deleted, or none. Raises ArchiveUnavailableError.
        """
        if not is_archivable(channel):
            return
        async with self._asking(DELETE_SECONDS) as session, session.transaction():
            await self._table.delete(session, channel, top)

    async def stock(self) -> Stock:
        """Return what the archive holds. Raises ArchiveUnavailableError."""
        async with self._asking(OPERATOR_SECONDS) as session:
            return await self._table.stock(session)

    async def prune(self, older_than: float, pattern: str, *, is_test: bool) -> int:
        """Delete old messages, see `ArchiveTable.prune`. Raises ArchiveUnavailableError."""
        async with self._asking(OPERATOR_SECONDS) as session:
            return await self._table.prune(session, older_than, pattern, is_test=is_test)

    def close(self) -> None:
        self._pool.close()

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncIterator[Session]:
        """Lend a connection for a time. Raises ArchiveUnavailableError, at once while PostgreSQL rests."""
        if self._clock() < self._ask_again_at:
            raise ArchiveUnavailableError("PostgreSQL did not answer just now")
        try:
            async with asyncio.timeout(seconds), self._pool.session() as session:
                yield session
        except (PostgresUnavailableError, TimeoutError) as exc:
            self._ask_again_at = self._clock() + REST_SECONDS
            logger.warning("the archive does not answer: %s", exc or f"no answer within {seconds:g} s")
            raise ArchiveUnavailableError(str(exc) or f"no answer within {seconds:g} s") from exc
