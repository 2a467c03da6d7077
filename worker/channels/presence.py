"""Who is in a channel, on whatever worker and node.

A worker knows its own members; the rest is read from Redis, where each worker keeps one hash a channel, alive by the
worker's own refreshing. So nobody has to clean up after a worker that died, however many members it had: they are
not counted from the moment its heartbeat ends, and their hashes expire.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from wsd.worker.containment import report
from wsd.worker.contract.redis_keys import heartbeat_key, presence_key, presence_workers_key
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, RedisError
from wsd.worker.waiting import raise_if_cancelled
from wsd.worker.wire.messages import Member

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

logger = get_logger(__name__)

REFRESH_SECONDS = 10.0
LEASE_SECONDS = 35.0
"""How long a hash outlives its worker's last refresh: two may fail."""

GOODBYE_SECONDS = 2.0

BATCH_CHANNELS = 200


class Presence(ABC):
    """`joined` and `left` are told of this worker's own members and cost nothing; `run` tells the others."""

    @abstractmethod
    def joined(self, channel: str, key: str, member: Member) -> None:
        """`key`: unique among this worker's connections."""

    @abstractmethod
    def left(self, channel: str, key: str) -> None: ...

    @abstractmethod
    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        """How many members other workers have, and `limit` of them at most. Raises RedisError or OSError."""

    @abstractmethod
    async def of_worker(self, channel: str, worker_id: str, limit: int) -> tuple[int, list[Member]]:
        """The members that a worker has, or had when it died a moment ago. Raises RedisError or OSError."""

    @abstractmethod
    def refresh(self) -> None:
        """Enter all again: the server may have forgotten them."""

    @abstractmethod
    async def run(self) -> None: ...


class InMemoryPresence(Presence):
    """For one process: there are no others."""

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


class RedisPresence(Presence):
    def __init__(self, redis: Redis, worker_id: str) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._members: dict[str, dict[str, Member]] = {}
        self._changed: dict[str, set[str]] = {}  # channel: keys to write or to remove
        self._kept: set[str] = set()  # channels that are in Redis, with a lease
        self._wake = asyncio.Event()

    def joined(self, channel: str, key: str, member: Member) -> None:
        self._members.setdefault(channel, {})[key] = member
        self._note(channel, key)

    def left(self, channel: str, key: str) -> None:
        members = self._members.get(channel, {})
        if members.pop(key, None) is not None:
            if not members:
                del self._members[channel]
            self._note(channel, key)

    def _note(self, channel: str, key: str) -> None:
        self._changed.setdefault(channel, set()).add(key)
        self._wake.set()

    def refresh(self) -> None:
        self._kept.clear()
        for channel, members in self._members.items():
            self._changed.setdefault(channel, set()).update(members)
        self._wake.set()

    async def others(self, channel: str, limit: int) -> tuple[int, list[Member]]:
        entered: Any = await self._redis.zrangebyscore(presence_workers_key(channel), time.time(), "+inf")
        workers = [
            worker for worker in (member.decode(errors="replace") for member in entered) if worker != self._worker_id
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
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hlen(key)
            pipe.hrandfield(key, limit, withvalues=True)
            count, fields = await pipe.execute()
        return count, [msgspec.json.decode(value, type=Member) for value in fields[1::2]]

    async def run(self) -> None:
        """Write what changed, and keep all alive, until cancelled; then take it away, as far as Redis answers."""
        try:
            while True:
                due = time.monotonic() + REFRESH_SECONDS
                while (wait := due - time.monotonic()) > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._wake.wait()
                    self._wake.clear()
                    await self._try(self._write_changes)
                await self._try(self._keep_alive)
        finally:
            self._members, left = {}, self._members
            self._changed = {channel: set(members) for channel, members in left.items()}
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._try(self._write_changes)

    async def _try(self, write: Callable[[], Awaitable[None]]) -> None:
        try:
            await write()
        except (RedisError, OSError) as exc:
            logger.info("presence is not written now: %s", exc)  # whoever returns asks for a refresh
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report("presence", exc)
        raise_if_cancelled()

    async def _write_changes(self) -> None:
        while self._changed:
            batch = dict(self._changed.popitem() for _ in range(min(BATCH_CHANNELS, len(self._changed))))
            try:
                await self._write(batch)
            except (RedisError, OSError, asyncio.CancelledError):
                for channel, keys in batch.items():
                    self._changed.setdefault(channel, set()).update(keys)
                raise

    async def _write(self, batch: dict[str, set[str]]) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            for channel, keys in batch.items():
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
        for channel in batch:
            if channel in self._members:
                self._kept.add(channel)
            else:
                self._kept.discard(channel)

    async def _keep_alive(self) -> None:
        channels = list(self._members)
        for start in range(0, len(channels), BATCH_CHANNELS):
            batch = channels[start : start + BATCH_CHANNELS]
            async with self._redis.pipeline(transaction=False) as pipe:
                for channel in batch:
                    self._extend(pipe, channel)
                answers = await pipe.execute()
            for channel, kept in zip(batch, answers[::4], strict=True):
                if not kept and channel in self._members:  # Redis has lost it
                    self._kept.discard(channel)
                    self._changed.setdefault(channel, set()).update(self._members[channel])
        if self._changed:
            self._wake.set()

    def _extend(self, pipe: "Pipeline", channel: str) -> None:
        now = time.time()
        pipe.expire(presence_key(channel, self._worker_id), int(LEASE_SECONDS))
        pipe.zadd(presence_workers_key(channel), {self._worker_id: now + LEASE_SECONDS})
        pipe.zremrangebyscore(presence_workers_key(channel), "-inf", now)
        pipe.expire(presence_workers_key(channel), int(LEASE_SECONDS))
