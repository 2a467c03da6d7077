"""The job of publishing an outbox: rows are read, published in their order, and deleted."""

import asyncio
import random
import time
from dataclasses import replace

from wsd.worker.background.waiting import wait_at_most
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.postgres import PostgresUnavailableError, Session, SharedSessionError
from wsd.worker.relay.outbox_table import OutboxTable
from wsd.worker.relay.redis_sender import RedisSender
from wsd.worker.relay.rows import Publication, Row, RowError, RowReader

logger = get_logger(__name__)

STAND_BY_SECONDS = 0.5
"""How often a relay that stands by tries to take over.

It asks, and does not wait in PostgreSQL: a statement that waits for hours would keep dead rows of all tables.
"""

POLL_SECONDS = 2.0
"""How often the table is read without a notification, and how often its rows are counted."""

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 2.0
"""The ceilings of the random pauses after a failure: the first, and the highest."""


class Outbox:
    """Publishes the rows of one table. Of all relays on the table, the one that holds its lock does so."""

    def __init__(self, url: str, table_name: str, table: OutboxTable, reader: RowReader, sender: RedisSender) -> None:
        """`url` must be one at which a connection to PostgreSQL is a session of its own."""
        self.status = RelayStatus()
        self._url = url
        self._table_name = table_name
        self._table = table
        self._reader = reader
        self._sender = sender
        self._counted_at = 0.0
        self._failures = 0

    async def run(self) -> None:
        """Publish until cancelled. Connect anew whenever PostgreSQL was away."""
        while True:
            try:
                async with await Session.open(self._url) as session:
                    await session.check_own()
                    await session.keep_alive()
                    await self._stand_by(session)
                    await self._publish(session)
            except PostgresUnavailableError as exc:
                kind = "" if isinstance(exc, SharedSessionError) else "PostgreSQL: "
                self._failed(f"{kind}{exc}", active=False)
                await self._pause()

    async def _stand_by(self, session: Session) -> None:
        """Wait until this relay has the lock."""
        is_first = True
        while not await session.try_lock(f"wsd outbox {self._table_name}"):
            if is_first:
                logger.info("stands by, another relay publishes the rows of %s", self._table_name)
                is_first = False
            self._works(active=False)
            await asyncio.sleep(STAND_BY_SECONDS)
        logger.info("publishes the rows of %s", self._table_name, extra=EVENT)

    async def _publish(self, session: Session) -> None:
        """Publish what is there and what comes. Raises PostgresUnavailableError."""
        await session.listen(self._table_name.rpartition(".")[2])
        self._counted_at = 0.0
        while True:
            session.notified.clear()
            rows = await self._table.next(session)
            try:
                await self._hand_on(session, rows)
            except RedisUnavailableError as exc:
                self._failed(f"Redis: {exc}", active=True)
                await self._take_stock(session)
                await self._pause()
                continue
            self._works(active=True)
            await self._take_stock(session)
            if len(rows) < self._table.batch_rows:
                await wait_at_most(session.notified, POLL_SECONDS)

    async def _hand_on(self, session: Session, rows: list[Row]) -> None:
        """Publish rows, and delete those that are published.

        Raises RedisUnavailableError if rows have to wait, and PostgresUnavailableError.
        """
        batch, errors = self._read(rows)
        published: list[Publication] = []
        held_back: RedisUnavailableError | None = None
        for publication, error in zip(batch, await self._sender.send(batch) if batch else (), strict=True):
            if error is None:
                published.append(publication)
            elif str(error).startswith("WRONGTYPE"):
                errors[publication.row_id] = f"Redis: {error.public_reason}"
            else:
                held_back = error
        if published:
            await self._table.delete(session, [each.row_id for each in published])
            self.status = replace(self.status, published=self.status.published + len(published))
        if errors:
            await self._table.set_aside(session, errors)
            self._counted_at = 0.0  # they are counted at once
            first = next(iter(errors))
            text = "%d rows of %s cannot be published and are set aside, the first has the id %d: %s"
            logger.warning(text, len(errors), self._table_name, first, errors[first])
        if published:
            await self._sender.forget(published)
        if held_back is not None:
            raise held_back

    def _read(self, rows: list[Row]) -> tuple[list[Publication], dict[int, str]]:
        """Turn rows into messages. Return them, and why other rows are none, by their ids."""
        batch, errors = [], {}
        now = time.time()
        for row in rows:
            try:
                batch.append(self._reader.publication(row, now))
            except RowError as exc:
                errors[row.id] = str(exc)
        return batch, errors

    async def _take_stock(self, session: Session) -> None:
        """Count the rows, if that was not done lately."""
        now = time.monotonic()
        if now - self._counted_at < POLL_SECONDS:
            return
        waiting, set_aside, oldest = await self._table.stock(session)
        self.status = replace(self.status, waiting=waiting, set_aside=set_aside, oldest_seconds=oldest)
        self._counted_at = now

    def _works(self, *, active: bool) -> None:
        if self.status.problem:
            logger.info("works again", extra=EVENT)
        self._failures = 0
        status = replace(self.status, active=active, problem="")
        self.status = status if active else replace(status, waiting=0, set_aside=0, oldest_seconds=0.0)

    def _failed(self, problem: str, *, active: bool) -> None:
        if problem != self.status.problem:
            logger.warning("cannot publish: %s", problem)
        self._failures += 1
        self.status = replace(self.status, active=active, problem=problem)

    async def _pause(self) -> None:
        ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2 ** min(self._failures - 1, 10))
        await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
