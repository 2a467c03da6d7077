"""The limit of connections that one user may have, on all workers together."""

from contextlib import suppress

from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import RedisUnavailableError, TooManyConnectionsError
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.sessions.user_connections import UserConnections


class UserLimit:
    """Counts the connections of each user, and refuses those above the limit.

    A connection is counted from the call of `enter` on, before anything is awaited, so that two connections that come
    together see each other. It stays counted until `leave`, also when `enter` raises.
    While Redis is away the limit holds on each worker by itself.
    """

    def __init__(self, limit: int, fanout: Fanout, user_connections: UserConnections | None, redis: RedisSteps) -> None:
        """`limit`: 0 is no limit. `user_connections`: the counts of all workers, None on a worker that is alone."""
        self.limit = limit
        self._fanout = fanout
        self._user_connections = user_connections
        self._redis = redis

    async def enter(self, outbox: Outbox) -> None:
        """Count a connection with its user. Whatever happens here, `leave` must be called in the end.

        Raises TooManyConnectionsError.
        """
        here = self._fanout.add_to_user(outbox)
        if self.limit and not (here <= self.limit and await self._fits_everywhere(outbox)):
            raise TooManyConnectionsError(f"a user may have {self.limit} connections")

    async def _fits_everywhere(self, outbox: Outbox) -> bool:
        if self._user_connections is not None:
            with suppress(RedisUnavailableError):
                async with self._redis.step("a user's connections were not counted"):
                    return await self._user_connections.enter(outbox.user_id, outbox.session_id, self.limit)
        return True

    def leave(self, outbox: Outbox) -> None:
        """Count a connection no longer. Calling this again, or for a connection that never entered, changes nothing."""
        self._fanout.remove_from_user(outbox)
        if self._user_connections is not None:
            self._user_connections.leave(outbox.session_id)
