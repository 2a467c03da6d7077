"""How far each user has read a channel, where its options ask for it: clients say so with their pings.

The highest position of all of a user's connections counts. It is written in batches, and forgotten with the channel.
"""

import asyncio

from wsd.worker.broker.history import Position, epoch_seconds
from wsd.worker.contract.redis_keys import receipts_key
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import LOST, Redis
from wsd.worker.waiting import raise_if_cancelled

logger = get_logger(__name__)

WRITE_SECONDS = 0.5

MAX_READERS = 100_000
"""Readers that are remembered in this process; beyond it the one that said nothing for longest is forgotten."""

Reader = tuple[str, str, str]  # channel, epoch, user id


class Receipts:
    """`run` must run. Without a Redis they are of this process alone."""

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._read: dict[Reader, int] = {}  # with a Redis: not written yet
        self._lifetimes: dict[str, float] = {}  # of what is not written yet, by channel
        self._wake = asyncio.Event()

    def confirm(self, channel: str, user_id: str, at: Position, ttl: float) -> None:
        """A client has read all up to a position; `ttl`: seconds that the channel's history lives."""
        reader = (channel, at.epoch, user_id)
        self._read[reader] = max(at.offset, self._read.pop(reader, 0))
        if len(self._read) > MAX_READERS:
            del self._read[next(iter(self._read))]
        if self._redis is not None:
            self._lifetimes[channel] = epoch_seconds(ttl)
            self._wake.set()

    async def read_by(self, channel: str, user_id: str, epoch: str) -> int:
        """The highest offset that the user has read; 0 if none is known. Raises one of LOST."""
        noted = self._read.get((channel, epoch, user_id), 0)
        if self._redis is None:
            return noted
        stored = await self._redis.zscore(receipts_key(channel, epoch), user_id)
        return max(noted, int(stored or 0))

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(WRITE_SECONDS)
            self._wake.clear()
            if self._redis is not None:
                await self._write(self._redis)
                raise_if_cancelled()

    async def _write(self, redis: Redis) -> None:
        read, self._read = self._read, {}
        lifetimes, self._lifetimes = self._lifetimes, {}
        try:
            async with redis.pipeline(transaction=False) as pipe:
                for (channel, epoch, user_id), offset in read.items():
                    key = receipts_key(channel, epoch)
                    pipe.zadd(key, {user_id: offset}, gt=True)
                    pipe.expire(key, int(lifetimes[channel]))
                await pipe.execute()
        except LOST as exc:
            # Clients say it again with their next ping.
            logger.info("receipts are not written now: %s", exc)
