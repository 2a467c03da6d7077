"""The job of publishing an outbox: rows are read, published in their order, and deleted."""

import time
from dataclasses import replace

from wsd.worker.background.waiting import wait_at_most
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.locked_job import LockedJob
from wsd.worker.logs import get_logger
from wsd.worker.postgres import Session
from wsd.worker.relay.outbox_table import OutboxTable
from wsd.worker.relay.redis_sender import RedisSender
from wsd.worker.relay.rows import Publication, Row, RowError, RowReader

logger = get_logger(__name__)

POLL_SECONDS = 2.0
"""How often the table is read without a notification, and how often its rows are counted."""


class Outbox(LockedJob):
    """Publishes the rows of one table. Of all relays on the table, the one that holds its lock does so."""

    def __init__(self, url: str, table_name: str, table: OutboxTable, reader: RowReader, sender: RedisSender) -> None:
        """`url` must be one at which a connection to PostgreSQL is a session of its own."""
        super().__init__(
            url,
            f"wsd outbox {table_name}",
            does=f"publishes the rows of {table_name}",
            cannot="cannot publish",
            again="works again",
        )
        self.status = RelayStatus()
        self._table_name = table_name
        self._table = table
        self._reader = reader
        self._sender = sender
        self._counted_at = 0.0

    async def _work(self, session: Session) -> None:
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

    def _show(self, *, active: bool, problem: str) -> None:
        status = replace(self.status, active=active, problem=problem)
        stands_by = not active and not problem
        self.status = replace(status, waiting=0, set_aside=0, oldest_seconds=0.0) if stands_by else status
