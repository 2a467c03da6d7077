"""Connections to PostgreSQL: the only module that imports asyncpg, and turns its errors into ours."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import asyncpg

from wsd.worker.background.waiting import wait_at_most
from wsd.worker.errors import WorkerError

CONNECT_SECONDS = 5.0
"""How long a connection may take to be made."""

ANSWER_SECONDS = 10.0
"""How long PostgreSQL may take to answer."""

KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
"""Settings of a session by which the server ends it, and its lock, 11 seconds after the other machine has vanished."""

HEARING_SECONDS = 1.0
"""How long a notification may take when it is tested whether a connection receives any."""


class PostgresUnavailableError(WorkerError):
    """PostgreSQL did not carry out a request. Its text holds no password."""


class SharedSessionError(PostgresUnavailableError):
    """A pooler stands between, which gives one session of PostgreSQL to several clients."""


class postgres_errors:  # noqa: N801 - it is used like a function, as contextlib.suppress is
    """A `with` block in which asyncpg is called: what it raises becomes a PostgresUnavailableError."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
            reason = " ".join(str(exc).split())
            reason = reason or ("no answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__)
            raise PostgresUnavailableError(reason) from exc


class Session:
    """A connection to PostgreSQL. One command at a time."""

    def __init__(self, connection: Any, url: str) -> None:
        """`connection` is one of asyncpg. `open` makes one."""
        self._connection = connection
        self._url = url
        self.notified = asyncio.Event()
        """Set by each notification, and when the connection is lost. The owner clears it."""

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect. Raises PostgresUnavailableError."""
        with postgres_errors():
            # A pooler may hand each statement to another session, where a prepared one is not known.
            connection = await asyncpg.connect(
                url,
                statement_cache_size=0,
                timeout=CONNECT_SECONDS,
                command_timeout=ANSWER_SECONDS,
                server_settings={"application_name": "wsd relay"},
            )
        session = cls(connection, url)
        connection.add_termination_listener(lambda _: session.notified.set())
        return session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.terminate()  # the socket is closed at once, and with it the session and its locks end

    async def fetch(self, sql: str, *arguments: object) -> list[Sequence[Any]]:
        """Return the rows of a query. Raises PostgresUnavailableError."""
        with postgres_errors():
            rows: list[Sequence[Any]] = await self._connection.fetch(sql, *arguments)
        return rows

    async def execute(self, sql: str, *arguments: object) -> None:
        """Run a statement. Raises PostgresUnavailableError."""
        with postgres_errors():
            await self._connection.execute(sql, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Carry out the block in one transaction. Raises PostgresUnavailableError."""
        with postgres_errors():
            async with self._connection.transaction():
                yield

    async def listen(self, channel: str) -> None:
        """Let `notified` be set by the notifications of a channel. Raises PostgresUnavailableError."""
        with postgres_errors():
            await self._connection.add_listener(channel, self._notify)

    def _notify(self, *_: object) -> None:
        self.notified.set()

    async def keep_alive(self) -> None:
        """Let the server end this session soon after this machine has vanished. Raises PostgresUnavailableError."""
        for name, value in KEEPALIVE.items():
            await self.fetch("SELECT set_config($1, $2, false)", name, value)

    async def try_lock(self, name: str) -> bool:
        """Take the lock of this name, which one session of the database can have. Tell whether this one has it.

        Raises PostgresUnavailableError.
        """
        [(locked,)] = await self.fetch("SELECT pg_try_advisory_lock($1)", lock_number(name))
        return bool(locked)

    async def check_own(self) -> None:
        """Check that this connection is a session of its own, as locks and notifications need.

        PgBouncer lends a session for one transaction. A lock would then stay with a session that others use, and
        notifications would reach nobody.

        Raises SharedSessionError, or PostgresUnavailableError.
        """
        [(server_pid,)] = await self.fetch("SELECT pg_backend_pid()")
        if server_pid == self._connection.get_server_pid():
            return  # nothing stands between
        async with await type(self).open(self._url) as another:
            if (await another.fetch("SELECT pg_backend_pid()"))[0][0] == server_pid:
                raise SharedSessionError(SHARED)
            channel = f"wsd_{secrets.token_hex(6)}"
            await self.listen(channel)
            self.notified.clear()
            await another.fetch("SELECT pg_notify($1, '')", channel)
            if not await wait_at_most(self.notified, HEARING_SECONDS) or self._connection.is_closed():
                raise SharedSessionError(SHARED)


class Pool:
    """Connections to PostgreSQL that are opened when they are needed, and kept for a while."""

    def __init__(self, url: str, size: int, connect_timeout: float) -> None:
        """`size` is the most connections; `connect_timeout` is in seconds."""
        self._url = url
        self._size = size
        self._connect_timeout = connect_timeout
        self._pool: Any = None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Lend a connection. It is not one that can have locks and notifications. Raises PostgresUnavailableError."""
        with postgres_errors():
            if self._pool is None:
                pool = asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=60.0,
                    statement_cache_size=0,
                    timeout=self._connect_timeout,
                    server_settings={"application_name": "wsd worker"},
                )
                self._pool = await pool
            async with self._pool.acquire() as connection:
                yield Session(connection, self._url)

    def close(self) -> None:
        """Close all connections at once."""
        if self._pool is not None:
            self._pool.terminate()


SHARED = (
    "a pooler gives one session of PostgreSQL to several clients: "
    "set postgres.listen_url to the address of PostgreSQL itself"
)


def lock_number(name: str) -> int:
    """Return the number of the advisory lock of this name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def quoted(table: str) -> str:
    """Return the name of a table, with its schema if it has one, as SQL writes it."""
    return ".".join(f'"{part}"' for part in table.split("."))
