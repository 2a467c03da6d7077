"""The tables of the archive in PostgreSQL, and all SQL that reads and writes them.

`wsd_archive` has a row for each message. `wsd_archive_epochs` has a row for each epoch of a channel: its number `run`,
how far it is archived, and how many of its messages were lost before they could be.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from wsd.worker.archive.batches import Batch, Cursor, archived_text
from wsd.worker.archive.pages import Archived, Span
from wsd.worker.broker.history import Entry, offset_of
from wsd.worker.postgres import Session, quoted
from wsd.worker.wire.position import MAX_OFFSET, Position

ORIGIN = b"archive"
"""The origin of an entry that the archive had."""

EPOCHS_SUFFIX = "_epochs"

COUNTED_EXACTLY = 1_000_000
"""Up to this number rows are counted. Beyond it, PostgreSQL's own estimate is taken."""

LISTED_HOLES = 10
"""The most channels with lost messages that are listed."""

PRUNED_ROWS = 10_000
"""The most rows that are deleted at once, so that the archiver never waits long."""

Key = tuple[str, str]
"""A channel and its epoch."""


class Stock(Struct, frozen=True):
    """The contents of the archive. Times are in seconds since 1970, and None where there are no messages."""

    channels: int
    messages: int
    bytes: int
    oldest: float | None
    newest: float | None
    lost: int  # messages that Redis had forgotten before they were archived
    holes: dict[str, int]  # the channels with most of them


class ArchiveTable:
    """The tables of one database. Every method raises PostgresUnavailableError."""

    def __init__(self, table: str) -> None:
        """`table` is a name, or a schema and a name."""
        self._rows, self._epochs = quoted(table), quoted(table + EPOCHS_SUFFIX)

    async def cursors(self, session: Session, channels: Sequence[str]) -> dict[Key, Cursor]:
        """Return how far the latest epoch of each channel is archived."""
        sql = f"""SELECT DISTINCT ON (channel) channel, epoch, run, archived_to FROM {self._epochs}
            WHERE channel = ANY($1::text[]) ORDER BY channel, run DESC"""  # noqa: S608 - quoted
        found = await session.fetch(sql, channels)
        return {(channel, epoch): Cursor(run, to) for channel, epoch, run, to in found}

    async def locked(self, session: Session, keys: Sequence[Key]) -> dict[Key, Cursor]:
        """Return how far epochs are archived, and lock their rows until the end of the transaction.

        Epochs that are new get the next number of their channel.
        """
        channels, epochs = [channel for channel, _ in keys], [epoch for _, epoch in keys]
        given = "unnest($1::text[], $2::text[]) AS given (channel, epoch)"
        await session.execute(
            f"""INSERT INTO {self._epochs} (channel, epoch, run)
            SELECT channel, epoch,
                1 + coalesce((SELECT max(run) FROM {self._epochs} AS old WHERE old.channel = given.channel), 0)
            FROM {given}
            WHERE NOT EXISTS (SELECT FROM {self._epochs} AS old
                WHERE old.channel = given.channel AND old.epoch = given.epoch)
            ON CONFLICT DO NOTHING""",  # noqa: S608
            channels,
            epochs,
        )
        found = await session.fetch(
            f"""SELECT channel, epoch, run, archived_to FROM {self._epochs} WHERE (channel, epoch) IN
            (SELECT channel, epoch FROM {given}) ORDER BY channel, epoch FOR UPDATE""",  # noqa: S608
            channels,
            epochs,
        )
        return {(channel, epoch): Cursor(run, to) for channel, epoch, run, to in found}

    async def write(self, session: Session, batches: Mapping[Key, tuple[Cursor, Batch]]) -> None:
        """Write entries, and how far their epochs are archived then."""
        rows = [
            (channel, cursor.run, offset_of(entry), archived_text(entry.payload))
            for (channel, _), (cursor, batch) in batches.items()
            for entry in batch.entries
        ]
        if rows:
            await session.execute(
                f"""INSERT INTO {self._rows} (channel, run, "offset", message)
                SELECT channel, run, "offset", message::json
                FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) AS given (channel, run, "offset", message)
                ON CONFLICT DO NOTHING""",  # noqa: S608
                *(list(column) for column in zip(*rows, strict=True)),
            )
        moved = [
            (channel, epoch, batch.archived_to, batch.lost)
            for (channel, epoch), (cursor, batch) in batches.items()
            if batch.archived_to != cursor.archived_to
        ]
        if moved:
            await session.execute(
                f"""UPDATE {self._epochs} AS old SET archived_to = given.archived_to, lost = old.lost + given.lost
                FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
                    AS given (channel, epoch, archived_to, lost)
                WHERE old.channel = given.channel AND old.epoch = given.epoch""",  # noqa: S608
                *(list(column) for column in zip(*moved, strict=True)),
            )

    async def read(self, session: Session, channel: str, span: Span) -> Archived:
        """Return what the archive has of a part of an epoch."""
        epochs = await session.fetch(
            f"""SELECT epoch, run, archived_to FROM {self._epochs} WHERE channel = $1 AND run <=
                coalesce((SELECT run FROM {self._epochs} WHERE channel = $1 AND epoch = $2), 2147483647)
            ORDER BY run DESC LIMIT 2""",  # noqa: S608
            channel,
            span.epoch,
        )
        if not epochs:
            return Archived()
        (epoch, run, archived_to), *before = epochs
        if span.epoch not in ("", epoch):
            return Archived(previous=epoch)  # an epoch of which nothing is archived yet
        direction = "DESC" if span.reverse else ""
        found = await session.fetch(
            f"""SELECT "offset", message, total FROM (
                SELECT "offset", message, count(*) OVER () AS total,
                    sum(octet_length(message)) OVER (ORDER BY "offset" {direction}) AS bytes,
                    row_number() OVER (ORDER BY "offset" {direction}) AS number
                FROM (SELECT "offset", message::text FROM {self._rows}
                    WHERE channel = $1 AND run = $2 AND "offset" > $3 AND "offset" < $4
                    ORDER BY "offset" {direction} LIMIT $5) AS span) AS counted
            WHERE number = 1 OR coalesce(bytes, 0) <= $6 ORDER BY "offset" {direction}""",  # noqa: S608
            channel,
            run,
            span.after,
            span.before or MAX_OFFSET,
            span.count + 1,
            span.max_bytes,
        )
        entries = [
            Entry(ORIGIN, offset, (message or "").encode(), Position(offset, epoch))
            for offset, message, _ in found[: span.count]
        ]
        is_cut = bool(found) and len(entries) < found[0][2]
        return Archived(entries, is_cut, Position(archived_to, epoch), before[0][0] if before else "")

    async def delete(self, session: Session, channel: str, top: Position) -> None:
        """Delete the messages of a channel up to its newest position in Redis, and keep them from being archived yet.

        To be called in a transaction.
        """
        current = 2**31 - 1
        if top.epoch:
            cursor = (await self.locked(session, [(channel, top.epoch)]))[channel, top.epoch]
            current = cursor.run
            await session.execute(
                f"""UPDATE {self._epochs} SET archived_to = greatest(archived_to, $3)
                WHERE channel = $1 AND epoch = $2""",  # noqa: S608
                channel,
                top.epoch,
                top.offset,
            )
        await session.execute(
            f"""DELETE FROM {self._rows} WHERE channel = $1 AND (run < $2 OR run = $2 AND "offset" <= $3)""",  # noqa: S608
            channel,
            current,
            top.offset,
        )
        await session.execute(
            f"DELETE FROM {self._epochs} WHERE channel = $1 AND run < $2",  # noqa: S608
            channel,
            current,
        )

    async def stock(self, session: Session) -> Stock:
        """Return what the archive holds."""
        [(channels, lost, rows, size, oldest, newest)] = await session.fetch(
            f"""SELECT (SELECT count(DISTINCT channel) FROM {self._epochs}),
                coalesce((SELECT sum(lost) FROM {self._epochs}), 0)::bigint,
                (SELECT CASE WHEN reltuples > {COUNTED_EXACTLY} THEN reltuples::bigint
                    ELSE (SELECT count(*) FROM {self._rows}) END FROM pg_class WHERE oid = $1::text::regclass),
                pg_total_relation_size($1::text::regclass),
                (SELECT extract(epoch FROM min(archived_at))::float8 FROM {self._rows}),
                (SELECT extract(epoch FROM max(archived_at))::float8 FROM {self._rows})""",  # noqa: S608
            self._rows,
        )
        holes = await session.fetch(
            f"""SELECT channel, sum(lost)::bigint FROM {self._epochs} WHERE lost > 0
            GROUP BY channel ORDER BY 2 DESC, 1 LIMIT {LISTED_HOLES}"""  # noqa: S608
        )
        return Stock(channels, rows, size, oldest, newest, lost, dict(map(tuple, holes)))

    async def prune(self, session: Session, older_than: float, pattern: str, *, is_test: bool) -> int:
        """Delete up to PRUNED_ROWS messages of an age in seconds from channels that match, and return how many.

        `pattern` is one of LIKE. With `is_test` nothing is deleted, and those that would be are counted, up to
        COUNTED_EXACTLY. Epochs that are over, and have no messages any more, are forgotten with the last deletion.
        """
        chosen = f"FROM {self._rows} WHERE archived_at < now() - make_interval(secs => $1) AND channel LIKE $2"
        if is_test:
            [(number,)] = await session.fetch(
                f"SELECT count(*) FROM (SELECT {chosen} LIMIT {COUNTED_EXACTLY}) AS counted",  # noqa: S608
                older_than,
                pattern,
            )
            return int(number)
        [(number,)] = await session.fetch(
            f"""WITH gone AS (DELETE FROM {self._rows} WHERE ctid = ANY(ARRAY(SELECT ctid {chosen} LIMIT {PRUNED_ROWS}))
                RETURNING 1) SELECT count(*) FROM gone""",  # noqa: S608
            older_than,
            pattern,
        )
        if number < PRUNED_ROWS:
            await session.execute(
                f"""DELETE FROM {self._epochs} AS old
                WHERE EXISTS (SELECT FROM {self._epochs} AS newer
                    WHERE newer.channel = old.channel AND newer.run > old.run)
                AND NOT EXISTS (SELECT FROM {self._rows} AS kept
                    WHERE kept.channel = old.channel AND kept.run = old.run)"""  # noqa: S608
            )
        return int(number)
