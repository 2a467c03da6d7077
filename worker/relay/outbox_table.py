"""The outbox table, as the relay reads and changes it."""

from collections.abc import Sequence

from wsd.worker.contract.relay_status import COUNTED_AT_MOST
from wsd.worker.postgres import Session, quoted
from wsd.worker.relay.rows import Row

BATCH_ROWS = 500
"""The most rows that are read at once."""

BATCH_BYTES = 33_554_432
"""The most bytes of data that are read at once."""

MAX_TEXT = 300
"""Longer names of channels and idempotency keys are cut, since neither may be as long."""


def batch_rows(max_message_bytes: int) -> int:
    """Return how many rows are read at once, of which each may have `max_message_bytes` of data."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max_message_bytes))


class OutboxTable:
    """The outbox table of one database. Every method raises PostgresUnavailableError."""

    def __init__(self, table: str, max_message_bytes: int) -> None:
        self.batch_rows = batch_rows(max_message_bytes)
        self._max_message_bytes = max_message_bytes
        name = quoted(table)
        # Data that is too large is never sent to the relay.
        self._next = f"""
            SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint, left(channel, {MAX_TEXT}),
                octet_length(text), CASE WHEN octet_length(text) <= $2 THEN text END, left(idempotency_key, {MAX_TEXT})
            FROM (SELECT *, data::text AS text FROM {name} WHERE error IS NULL ORDER BY id LIMIT $1) AS waiting
            ORDER BY id"""  # noqa: S608 - the name is checked by the settings, and quoted
        self._delete = f"DELETE FROM {name} WHERE id = ANY($1::bigint[])"  # noqa: S608
        self._set_aside = f"""
            UPDATE {name} AS row SET error = found.error
            FROM unnest($1::bigint[], $2::text[]) AS found (id, error) WHERE row.id = found.id"""  # noqa: S608
        self._stock = f"""
            SELECT (SELECT count(*) FROM (SELECT FROM {name} WHERE error IS NULL LIMIT {COUNTED_AT_MOST}) AS counted),
                (SELECT count(*) FROM (SELECT FROM {name} WHERE error IS NOT NULL LIMIT {COUNTED_AT_MOST}) AS counted),
                (SELECT extract(epoch FROM clock_timestamp() - created_at)::float8
                 FROM {name} WHERE error IS NULL ORDER BY id LIMIT 1)"""  # noqa: S608

    async def next(self, session: Session) -> list[Row]:
        """Return the rows that come next, in the order of their ids."""
        return [Row(*row) for row in await session.fetch(self._next, self.batch_rows, self._max_message_bytes)]

    async def delete(self, session: Session, ids: Sequence[int]) -> None:
        await session.execute(self._delete, ids)

    async def set_aside(self, session: Session, errors: dict[int, str]) -> None:
        """Note at rows why they cannot be published. They stay in the table, and are not read again."""
        await session.execute(self._set_aside, list(errors), list(errors.values()))

    async def stock(self, session: Session) -> tuple[int, int, float]:
        """Return how many rows wait, how many are set aside, and how many seconds ago the next one was inserted."""
        [(waiting, set_aside, oldest)] = await session.fetch(self._stock)
        return waiting, set_aside, max(0.0, oldest or 0.0)
