"""Questions to Redis on behalf of one client: limited in time, and not asked while Redis is known to be away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import redis_errors

logger = get_logger(__name__)


class RedisSteps:
    """The steps of a manager's call that ask Redis.

    A call has two such steps at most: one finds out, one acts. So each step may take half of the call's time.
    """

    def __init__(self, broker: MessageBroker, timeout: float) -> None:
        """`timeout`: seconds that one step may take."""
        self.timeout = timeout
        self._broker = broker

    @asynccontextmanager
    async def step(self, consequence: str, seconds: float = 0.0) -> AsyncIterator[None]:
        """Run a block that asks Redis. `consequence` says in the log what a missing answer means.

        `seconds`: how long a block may take that has many requests one after the other. The connection then limits each
        of them.

        When Redis does not answer, the broker is told, and checks the connection by itself. A Redis that is known to be
        away is not asked at all.

        Raises RedisUnavailableError.
        """
        if not self._broker.healthy:
            raise RedisUnavailableError("Redis is away")
        try:
            async with redis_errors(seconds or self.timeout):
                yield
        except RedisUnavailableError as exc:
            reason = f"{consequence}: {exc}"
            if exc.rejected:
                logger.warning(reason)
            else:
                self._broker.suspect(reason)
            raise
