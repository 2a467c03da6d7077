"""Connections of redis-py that lead to the primary, whichever server that is when they connect.

redis-py has such connections, too. They ask for all that a Sentinel knows, one Sentinel after the other with a time
limit each, believe the first one, and stay with a primary that was replaced until it says READONLY.
"""

import asyncio
from typing import Any

from wsd.worker.contract.redis_address import Place, shown
from wsd.worker.contract.sentinels.sentinels import Sentinels


def leading_to_primary(connection_class: type[Any], sentinels: Sentinels) -> type[Any]:
    """Return a class of connections that ask the Sentinels whenever they connect, and check the role of the server.

    `connection_class` is that of redis.asyncio for TCP, or the one with TLS.
    """

    class PrimaryConnection(connection_class):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "redis_connect_func": self._greet})
            self.is_dropped = False

        @property
        def place(self) -> Place:
            return self.host, self.port

        def drop(self) -> None:
            """Close the connection at once. Code that waits for an answer on it gets an error.

            redis-py still takes it for open, and must: its code may be about to write.
            """
            self.is_dropped = True
            if (writer := self._writer) is not None:
                writer.transport.abort()

        async def connect(self) -> None:
            """Connect, unless there is a connection. redis-py calls this whenever it takes one from the pool."""
            if self.is_dropped:
                await self.disconnect(nowait=True)
            await super().connect()

        async def _connect(self) -> None:
            self.host, self.port = await sentinels.primary()
            self.is_dropped = False
            sentinels.watch(self)
            await super()._connect()

        async def _greet(self, _: Any) -> None:
            """Log in, and see that this is the primary. redis-py calls this on each new connection.

            A server that is frozen accepts connections, so all has a time limit. On an error the connection is closed:
            redis-py would take it for a good one at the next command.
            """
            try:
                async with asyncio.timeout(self.socket_connect_timeout):
                    await self.on_connect()
                    await self._check_role()
                if self.place != sentinels.current:  # while we logged in
                    raise ConnectionError(f"{shown(self.place)} is not the primary any more")
            except BaseException:
                self.drop()
                await self.disconnect(nowait=True)
                raise

        async def _check_role(self) -> None:
            """Raise ConnectionError for a replica. A Sentinel may be late, or the server may have changed its role."""
            await self.send_command("ROLE", check_health=False)
            try:
                answer = await self.read_response()
            except Exception as exc:
                if "NOPERM" in str(exc) or "no permissions" in str(exc):
                    return  # the user may not ask; the first write fails on a replica
                raise
            role = answer[0].decode() if isinstance(answer[0], bytes) else answer[0]
            if role != "master":
                raise ConnectionError(f"{shown(self.place)} is a replica, which the Sentinels name as the primary")

    return PrimaryConnection
