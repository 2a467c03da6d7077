"""How many connections a user may have, on all workers together: counted and entered in Redis in one step.

Entries of a worker that died are not counted, so that a crash locks nobody out; the next who asks takes them out.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from wsd.worker.contract.redis_keys import user_connections_key
from wsd.worker.logs import get_logger
from wsd.worker.redis_client import Redis, RedisError
from wsd.worker.waiting import raise_if_cancelled

logger = get_logger(__name__)

REFRESH_SECONDS = 30.0
TTL_SECONDS = 100
FRESH_SECONDS = 10.0
"""An entry so young counts although its worker is not known to live: it may have just begun to."""

# KEYS the user's entries; ARGV now, entry, limit, ttl, since when entries are fresh, then the workers that live.
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


class UserConnections:
    """`run` must run. `live_workers`: ids of the workers that beat, as far as known."""

    def __init__(self, redis: Redis, worker_id: str, live_workers: Callable[[], Collection[str]]) -> None:
        self._redis = redis
        self._worker_id = worker_id
        self._live_workers = live_workers
        self._enter = redis.register_script(ENTER_SCRIPT)
        self._own: dict[str, str] = {}  # session id: user id
        self._ended: list[tuple[str, str]] = []
        self._wake = asyncio.Event()

    async def enter(self, user_id: str, session_id: str, limit: int) -> bool:
        """Count one more connection; False when the user has `limit` already. Raises RedisError or OSError."""
        now = time.time()
        arguments: list[str | float] = [now, self._entry(session_id), limit, TTL_SECONDS, now - FRESH_SECONDS]
        live = {self._worker_id, *self._live_workers()}
        entered = await self._enter(keys=[user_connections_key(user_id)], args=[*arguments, *live])
        if entered:
            self._own[session_id] = user_id
        return bool(entered)

    def leave(self, session_id: str) -> None:
        if (user_id := self._own.pop(session_id, None)) is not None:
            self._ended.append((user_id, session_id))
            self._wake.set()

    async def run(self) -> None:
        """Take out who left and keep the others in, until cancelled."""
        refresh_at = time.monotonic() + REFRESH_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, refresh_at - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()
            kept: Collection[tuple[str, str]] = ()
            if time.monotonic() >= refresh_at:
                refresh_at = time.monotonic() + REFRESH_SECONDS
                kept = list(self._own.items())
            try:
                await self._write(kept)
            except (RedisError, OSError) as exc:
                logger.info("connections of users are not counted now: %s", exc)
            raise_if_cancelled()

    async def _write(self, kept: Collection[tuple[str, str]]) -> None:
        ended, self._ended = self._ended, []
        now = time.time()
        async with self._redis.pipeline(transaction=False) as pipe:
            for user_id, session_id in ended:
                pipe.zrem(user_connections_key(user_id), self._entry(session_id))
            for session_id, user_id in kept:
                pipe.zadd(user_connections_key(user_id), {self._entry(session_id): now})
                pipe.expire(user_connections_key(user_id), TTL_SECONDS)
            await pipe.execute()

    def _entry(self, session_id: str) -> str:
        return f"{self._worker_id} {session_id}"
