"""The limit of connections for each user, on all workers together: counted and entered in Redis in one step.

Entries of a worker that died are not counted, so that a crash locks nobody out. The next connection of the same user
removes them.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Self

from wsd.worker.background.write_behind import Batch, WriteBehind
from wsd.worker.contract.redis_keys import user_connections_key
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, redis_errors

logger = get_logger(__name__)

REFRESH_SECONDS = 30.0
"""How often the entries of this worker's connections are kept alive."""

TTL_SECONDS = 100
"""How long the entries of a user outlive the last refresh."""

FRESH_SECONDS = 10.0
"""An entry younger than this counts although its worker is not known to live: the worker may have just begun to."""

ENTER_SCRIPT = """
local live = {}
for i = 6, #ARGV do live[ARGV[i]] = true end
local entries = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local count = 0
for i = 1, #entries, 2 do
    if live[string.match(entries[i], '^%S+')] or tonumber(entries[i + 1]) > tonumber(ARGV[5]) then
        count = count + 1
    else
        redis.call('ZREM', KEYS[1], entries[i])
    end
end
if count >= tonumber(ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""Enter a connection unless the limit is reached. KEYS: the user's entries. ARGV: now, entry, limit, ttl in seconds,
the time since when entries are fresh, then the ids of live workers. Returns 1 if it was entered, else 0."""


@dataclass
class _Changes(Batch):
    ended: dict[str, str] = field(default_factory=dict)  # user id by session id
    refresh: bool = False  # whether to keep the others alive

    def __bool__(self) -> bool:
        return bool(self.ended) or self.refresh

    def add_older(self, older: Self) -> None:
        self.ended = {**older.ended, **self.ended}
        self.refresh = self.refresh or older.refresh


class UserConnections:
    """The connections of this worker, each entered with its user. `run` must run."""

    def __init__(self, redis: Redis, worker_id: str, live_workers: Callable[[], Collection[str]]) -> None:
        """`live_workers`: the ids of the workers that have a heartbeat, as far as known."""
        self._redis = redis
        self._worker_id = worker_id
        self._live_workers = live_workers
        self._enter = redis.register_script(ENTER_SCRIPT)
        self._own: dict[str, str] = {}  # user id by session id
        self._changes = WriteBehind("user connections", _Changes, self._write, on_unavailable=self._unavailable)

    async def enter(self, user_id: str, session_id: str, limit: int) -> bool:
        """Count one more connection of a user. Return False when the user has `limit` of them already.

        Raises RedisUnavailableError.
        """
        now = time.time()
        arguments: list[str | float] = [now, self._entry(session_id), limit, TTL_SECONDS, now - FRESH_SECONDS]
        live = {self._worker_id, *self._live_workers()}
        async with redis_errors():
            entered = await self._enter(keys=[user_connections_key(user_id)], args=[*arguments, *live])
        if entered:
            self._own[session_id] = user_id
        return bool(entered)

    def leave(self, session_id: str) -> None:
        """Count a connection no longer, if it was entered."""
        if (user_id := self._own.pop(session_id, None)) is not None:
            self._changes.pending.ended[session_id] = user_id
            self._changes.wake()

    async def run(self) -> None:
        """Remove connections that have ended and keep the others alive, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._changes.run())
            tasks.create_task(self._refresh_regularly())

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self._changes.pending.refresh = True
            self._changes.wake()

    async def _write(self, batch: _Changes) -> None:
        now = time.time()
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            for session_id, user_id in batch.ended.items():
                if session_id not in self._own:  # it may have come back while Redis was away
                    pipe.zrem(user_connections_key(user_id), self._entry(session_id))
            for session_id, user_id in self._own.items() if batch.refresh else ():
                pipe.zadd(user_connections_key(user_id), {self._entry(session_id): now})
                pipe.expire(user_connections_key(user_id), TTL_SECONDS)
            await pipe.execute()

    def _unavailable(self, exc: RedisUnavailableError) -> None:
        logger.info("connections of users are not counted now: %s", exc)

    def _entry(self, session_id: str) -> str:
        return f"{self._worker_id} {session_id}"
