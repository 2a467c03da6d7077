"""The examination of a PostgreSQL for `wsd doctor`: can a relay publish an outbox there?"""

from wsd.worker.contract.relay_status import Examined
from wsd.worker.postgres import PostgresUnavailableError, Session, SharedSessionError, quoted

REMEDY = "run what `wsd init --postgres` prints, with psql, as the owner of the database"

COLUMNS = ("id", "channel", "data", "idempotency_key", "created_at", "error")

RIGHTS = ("SELECT", "DELETE")


async def examine(postgres_url: str, session_url: str, table: str) -> list[Examined]:
    """Connect as a relay does, and say of each thing that it needs whether it is there."""
    found = []
    if postgres_url != session_url:
        try:
            async with await Session.open(postgres_url) as session:
                await session.fetch("SELECT 1")
        except PostgresUnavailableError as exc:
            return [Examined("failure", "PostgreSQL", str(exc), "check postgres.url: host, port, database, password")]
    try:
        async with await Session.open(session_url) as session:
            [(version,)] = await session.fetch("SHOW server_version")
            found.append(Examined("ok", "PostgreSQL", f"version {version}"))
            found.append(await _own_session(session))
            found += await _table(session, table)
    except PostgresUnavailableError as exc:
        remedy = "check that it is running, and host, port, database, user and password"
        found.append(Examined("failure", "PostgreSQL", str(exc), remedy))
    return found


async def _own_session(session: Session) -> Examined:
    try:
        await session.check_own()
    except SharedSessionError:
        found = "a pooler gives one session to several clients, so that no lock and no notification works"
        return Examined("failure", "PostgreSQL: session", found, "set postgres.listen_url to PostgreSQL itself")
    return Examined("ok", "PostgreSQL: session", "a connection is a session of its own")


async def _table(session: Session, table: str) -> list[Examined]:
    name = f"PostgreSQL: {table}"
    [(oid,)] = await session.fetch("SELECT to_regclass($1)::oid", quoted(table))
    if oid is None:
        return [Examined("failure", name, "there is no such table for this user", REMEDY)]
    columns = {row[0] for row in await session.fetch("SELECT attname FROM pg_attribute WHERE attrelid = $1", oid)}
    if missing := [column for column in COLUMNS if column not in columns]:
        return [Examined("failure", name, f"has no column {', '.join(missing)}", REMEDY)]
    lacking = [right for right in RIGHTS if not await _may(session, "has_table_privilege($1::oid, $2)", oid, right)]
    if not await _may(session, "has_column_privilege($1::oid, 'error', $2)", oid, "UPDATE"):
        lacking.append("UPDATE (error)")
    if lacking:
        remedy = f"GRANT {', '.join(lacking)} ON {table} TO the user of postgres.url"
        return [Examined("failure", name, f"this user lacks {', '.join(lacking)}", remedy)]
    found = [Examined("ok", name, "has its columns, and this user its rights")]
    triggers = await session.fetch(
        "SELECT FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2 AND tgenabled IN ('O', 'A')",
        oid,
        f"{table.rpartition('.')[2]}_notify",
    )
    if not triggers:
        slow = "has no trigger that wakes the relay: rows wait up to two seconds"
        found.append(Examined("warning", f"{name} trigger", slow, REMEDY))
    [(waiting, failed)] = await session.fetch(
        f"SELECT count(*) FILTER (WHERE error IS NULL), count(*) FILTER (WHERE error IS NOT NULL) "  # noqa: S608
        f"FROM (SELECT error FROM {quoted(table)} LIMIT 100000) AS counted"
    )
    if failed:
        remedy = "see the column error of these rows, and docs/postgres.md"
        found.append(Examined("warning", f"{name} rows", f"{failed} cannot be published, {waiting} wait", remedy))
    else:
        found.append(Examined("ok", f"{name} rows", f"{waiting} wait"))
    return found


async def _may(session: Session, expression: str, oid: int, right: str) -> bool:
    [(permitted,)] = await session.fetch(f"SELECT {expression}", oid, right)
    return bool(permitted)
