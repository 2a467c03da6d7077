"""Receipts: how far each user has read a channel.

Clients report it with their pings, where the channel's options ask for it. The highest position of all connections of
a user counts. Positions are written in batches, and forgotten with the channel.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from wsd.worker.background.write_behind import Batch, WriteBehind
from wsd.worker.broker.history import epoch_seconds
from wsd.worker.contract.redis_keys import receipts_key
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors
from wsd.worker.wire.position import Position

logger = get_logger(__name__)

WRITE_SECONDS = 0.5
"""How long positions gather before they are written."""

MAX_READERS = 100_000
"""Readers remembered in this process. Beyond it, the reader that has confirmed nothing for longest is forgotten."""

Reader = tuple[str, str, str]
"""Channel, epoch, user id."""


@dataclass
class _Receipts(Batch):
    offsets: dict[Reader, int] = field(default_factory=dict)  # the reader that confirmed last is the last
    lifetimes: dict[str, float] = field(default_factory=dict)  # in seconds, by channel

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def confirm(self, reader: Reader, offset: int) -> None:
        self.offsets[reader] = max(offset, self.offsets.pop(reader, 0))
        if len(self.offsets) > MAX_READERS:
            del self.offsets[next(iter(self.offsets))]

    def add_older(self, older: Self) -> None:
        newer, self.offsets = self.offsets, older.offsets
        for reader, offset in newer.items():
            self.confirm(reader, offset)
        self.lifetimes = {**older.lifetimes, **self.lifetimes}


class Receipts:
    """The positions that users have read. `run` must run.

    Without Redis they are those of this process alone.
    """

    def __init__(self, redis: Redis | None) -> None:
        self._redis = redis
        self._receipts = WriteBehind(
            "receipts", _Receipts, self._write, on_unavailable=self._unavailable, gather_seconds=WRITE_SECONDS
        )

    def confirm(self, channel: str, user_id: str, at: Position, ttl: float) -> None:
        """Note that a user has read all up to a position. `ttl`: seconds that the channel's history lives."""
        receipts = self._receipts.pending
        receipts.confirm((channel, at.epoch, user_id), at.offset)
        if self._redis is not None:
            receipts.lifetimes[channel] = epoch_seconds(ttl)
            self._receipts.wake()

    async def read_by(self, channel: str, user_id: str, epoch: str) -> int:
        """Return the highest offset that a user has read; 0 if none is known. Raises RedisUnavailableError."""
        noted = self._receipts.pending.offsets.get((channel, epoch, user_id), 0)
        if self._redis is None:
            return noted
        async with redis_errors():
            stored = await self._redis.zscore(receipts_key(channel, epoch), user_id)
        return max(noted, int(stored or 0))

    def snapshot(self) -> list[tuple[Reader, int]]:
        """Return what this process alone knows, without a Redis, for another process to go on with."""
        return list(self._receipts.pending.offsets.items())

    def restore(self, snapshot: Iterable[tuple[Reader, int]]) -> None:
        """Go on with what another process knew."""
        for reader, offset in snapshot:
            self._receipts.pending.confirm(reader, offset)

    async def run(self) -> None:
        """Write receipts until cancelled."""
        await self._receipts.run()

    async def _write(self, batch: _Receipts) -> None:
        assert self._redis is not None
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for (channel, epoch, user_id), offset in batch.offsets.items():
                key = receipts_key(channel, epoch)
                pipe.zadd(key, {user_id: offset}, gt=True)
                pipe.expire(key, int(batch.lifetimes[channel]))
            await pipe.execute()

    def _unavailable(self, exc: RedisUnavailableError) -> None:
        logger.info("receipts are not written now: %s", exc)
