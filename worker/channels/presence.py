"""The members of channels, on whatever worker and node.

A worker knows its own members. The others are read from Redis, where each worker keeps one hash for each channel and
keeps it alive. So nobody has to clean up after a worker that died, however many members it had: they are not counted
from the moment when its heartbeat ends, and their hashes expire.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import msgspec

from wsd.worker.background.write_behind import Batch, WriteBehind
from wsd.worker.contract.redis_keys import heartbeat_key, presence_key, presence_workers_key
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors
from wsd.worker.wire.messages import Member

if TYPE_CHECKING:
    from wsd.worker.redis_client import Pipeline

logger = get_logger(__name__)

REFRESH_SECONDS = 10.0
"""How often the hashes of this worker are kept alive."""

LEASE_SECONDS = 35.0
"""How long a hash outlives its worker's last refresh. Two refreshes may fail."""

LAST_WRITE_SECONDS = 2.0
"""How long the end of a worker may wait for Redis to remove its members."""

BATCH_CHANNELS = 200
"""Channels written at once."""


class Presence(ABC):
    """The members of channels.

    `joined` and `left` note this worker's own members and cost nothing. `run` makes them known to the other workers.
    """

    @abstractmethod
    def joined(self, channel: str, key: str, member: Member) -> None:
        """Note a new member of a channel. `key`: unique among this worker's connections."""

    @abstractmethod
    def left(self, channel: str, key: str) -> None: ...

    @abstractmethod
    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        """Return how many members other workers have, and `limit` of them at most. Raises RedisUnavailableError."""

    @abstractmethod
    async def of_worker(self, channel: str, worker_id: str, limit: int) -> tuple[int, list[Member]]:
        """Return the members that a worker has, or had when it died a moment ago, and how many there are.

        At most `limit` are returned. Raises RedisUnavailableError.
        """

    @abstractmethod
    def refresh(self) -> None:
        """Write all members again, since the server may have forgotten them."""

    @abstractmethod
    async def run(self) -> None: ...


class InMemoryPresence(Presence):
    """The presence of a worker that stands alone: there are no others."""

    def joined(self, channel: str, key: str, member: Member) -> None:
        pass

    def left(self, channel: str, key: str) -> None:
        pass

    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        return 0, []

    async def of_worker(self, channel: str, worker_id: str, limit: int) -> tuple[int, list[Member]]:
        return 0, []

    def refresh(self) -> None:
        pass

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()


@dataclass
class _Changes(Batch):
    members: dict[str, set[str]] = field(default_factory=dict)  # by channel: keys to write, or to remove if gone
    keep_alive: bool = False  # whether to keep all channels alive

    def __bool__(self) -> bool:
        return bool(self.members) or self.keep_alive

    def note(self, channel: str, keys: Iterable[str]) -> None:
        self.members.setdefault(channel, set()).update(keys)

    def add_older(self, older: Self) -> None:
        # Not `keep_alive`: the next time for it comes soon enough.
        for channel, keys in older.members.items():
            self.note(channel, keys)

    def parts(self) -> Iterable[Self]:
        return [type(self)({channel: keys}) for channel, keys in self.members.items()] if len(self.members) > 1 else []


class RedisPresence(Presence):
    """Presence on all workers of a Redis."""

    def __init__(self, redis: Redis, worker_id: str) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._members: dict[str, dict[str, Member]] = {}
        self._kept: set[str] = set()  # channels that are in Redis, with a lease
        self._changes = WriteBehind("presence", _Changes, self._write, on_unavailable=self._unavailable)

    def joined(self, channel: str, key: str, member: Member) -> None:
        self._members.setdefault(channel, {})[key] = member
        self._changes.pending.note(channel, [key])
        self._changes.wake()

    def left(self, channel: str, key: str) -> None:
        members = self._members.get(channel, {})
        if members.pop(key, None) is not None:
            if not members:
                del self._members[channel]
            self._changes.pending.note(channel, [key])
            self._changes.wake()

    def refresh(self) -> None:
        self._kept.clear()
        for channel, members in self._members.items():
            self._changes.pending.note(channel, members)
        self._changes.wake()

    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        async with redis_errors():
            entered: Any = await self._redis.zrangebyscore(presence_workers_key(channel), time.time(), "+inf")
            workers = [
                worker
                for worker in (member.decode(errors="replace") for member in entered)
                if worker != self._worker_id
            ]
            if not workers:
                return 0, []
            async with self._redis.pipeline(transaction=False) as pipe:
                for worker in workers:
                    pipe.exists(heartbeat_key(worker))
                    pipe.hlen(presence_key(channel, worker))
                    # Not HGETALL: a channel may have any number of members.
                    pipe.hrandfield(presence_key(channel, worker), limit, withvalues=True)
                answers = await pipe.execute()
        count = 0
        found: list[Member] = []
        for alive, length, fields in zip(answers[::3], answers[1::3], answers[2::3], strict=True):
            if alive:
                count += length
                found += [msgspec.json.decode(value, type=Member) for value in fields[1::2]]
        return count, found[:limit]

    async def of_worker(self, channel: str, worker_id: str, limit: int) -> tuple[int, list[Member]]:
        key = presence_key(channel, worker_id)
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(key)
            pipe.hrandfield(key, limit, withvalues=True)
            count, fields = await pipe.execute()
        return count, [msgspec.json.decode(value, type=Member) for value in fields[1::2]]

    async def run(self) -> None:
        """Write changes and keep all channels alive until cancelled. Then remove them, as far as Redis answers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._changes.run())
                tasks.create_task(self._keep_alive_regularly())
        finally:
            self._members, left = {}, self._members
            for channel, members in left.items():
                self._changes.pending.note(channel, members)
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WRITE_SECONDS):
                    await self._changes.flush()

    async def _keep_alive_regularly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self._changes.pending.keep_alive = True
            self._changes.wake()

    def _unavailable(self, exc: RedisUnavailableError) -> None:
        logger.info("presence is not written now: %s", exc)  # `refresh` is called when Redis is back

    async def _write(self, batch: _Changes) -> None:
        try:
            await self._write_members(batch)
        except RedisUnavailableError:
            if batch.keep_alive:  # a server whose memory is full rejects new members, and still extends leases
                await self._keep_alive()
            raise
        if batch.keep_alive:
            await self._keep_alive()

    async def _write_members(self, batch: _Changes) -> None:
        while batch.members:
            channels = list(islice(batch.members, BATCH_CHANNELS))
            await self._write_channels({channel: batch.members[channel] for channel in channels})
            for channel in channels:
                del batch.members[channel]

    async def _write_channels(self, changes: dict[str, set[str]]) -> None:
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for channel, keys in changes.items():
                where = presence_key(channel, self._worker_id)
                members = self._members.get(channel)
                if members is None:
                    pipe.delete(where)
                    pipe.zrem(presence_workers_key(channel), self._worker_id)
                    continue
                here: dict[Any, Any] = {key: msgspec.json.encode(members[key]) for key in keys if key in members}
                if here:
                    pipe.hset(where, mapping=here)
                if gone := keys - here.keys():
                    pipe.hdel(where, *gone)
                if channel not in self._kept:  # else `_keep_alive` does it
                    self._extend(pipe, channel)
            await pipe.execute()
        for channel in changes:
            if channel in self._members:
                self._kept.add(channel)
            else:
                self._kept.discard(channel)

    async def _keep_alive(self) -> None:
        channels = list(self._members)
        for start in range(0, len(channels), BATCH_CHANNELS):
            batch = channels[start : start + BATCH_CHANNELS]
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for channel in batch:
                    self._extend(pipe, channel)
                answers = await pipe.execute()
            for channel, kept in zip(batch, answers[::4], strict=True):
                if not kept and channel in self._members:  # Redis has lost it
                    self._kept.discard(channel)
                    self._changes.pending.note(channel, self._members[channel])
                    self._changes.wake()

    def _extend(self, pipe: "Pipeline", channel: str) -> None:
        """Let a channel's hash, and the entry of this worker in the channel, live for another lease."""
        now = time.time()
        pipe.expire(presence_key(channel, self._worker_id), int(LEASE_SECONDS))
        pipe.zadd(presence_workers_key(channel), {self._worker_id: now + LEASE_SECONDS})
        pipe.zremrangebyscore(presence_workers_key(channel), "-inf", now)
        pipe.expire(presence_workers_key(channel), int(LEASE_SECONDS))
