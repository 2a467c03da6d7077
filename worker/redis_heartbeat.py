"""The heartbeats of workers in Redis: a worker writes its record, and learns which workers live, in one step."""

from dataclasses import dataclass

from wsd.worker.broker.message_format import UNNUMBERED
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.redis_keys import EVERY_WORKER, LIVE_WORKERS_KEY, SESSIONS_KEY, heartbeat_key
from wsd.worker.manager.peers import WorkerCame
from wsd.worker.redis_client import Redis, redis_errors
from wsd.worker.wire.messages import encode

# One script, and the clock of Redis: no worker's clock can make another one look dead.
# KEYS heartbeat, live workers, sessions.
# ARGV record, lifetime in ms, worker id, channel of all workers, announcement. The announcement is published when Redis
# did not know this worker: the others then count it at once, not only at their next beat.
# Answer: whether Redis knew this worker, the ids of the live workers, the number of live sessions.
BEAT_SCRIPT = """
local known = redis.call('EXISTS', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if known == 0 then redis.call('PUBLISH', ARGV[4], ARGV[5]) end
return {known, redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('ZCOUNT', KEYS[3], now / 1000, '+inf')}
"""

ANNOUNCEMENT = UNNUMBERED + encode(WorkerCame())
"""Published past the broker: news of a worker that is back must not wait with the messages that were spooled."""


@dataclass(frozen=True)
class Beat:
    """The answer of Redis to one beat."""

    was_known: bool  # whether Redis still had the last beat of this worker
    workers: frozenset[str]  # ids of the workers that live
    sessions: int  # of all workers


class RedisHeartbeat:
    """The record of this worker in Redis. Methods raise RedisUnavailableError."""

    def __init__(self, redis: Redis, worker_id: str, *, ttl: float, timeout: float) -> None:
        """`ttl`: seconds that the record lives without another beat. `timeout`: seconds that a beat may take."""
        self._redis = redis
        self._worker_id = worker_id
        self._ttl_ms = int(ttl * 1000)
        self._timeout = timeout
        self._script = redis.register_script(BEAT_SCRIPT)

    async def beat(self, record: Heartbeat) -> Beat:
        """Write the record, and find out which workers live."""
        keys = [heartbeat_key(self._worker_id), LIVE_WORKERS_KEY, SESSIONS_KEY]
        arguments: list[str | int | bytes] = [
            record.to_json(),
            self._ttl_ms,
            self._worker_id,
            EVERY_WORKER,
            ANNOUNCEMENT,
        ]
        async with redis_errors(self._timeout):
            was_known, workers, sessions = await self._script(keys, arguments)
        return Beat(bool(was_known), frozenset(worker.decode(errors="replace") for worker in workers), sessions)

    async def delete(self) -> None:
        """Delete the record, so that the others know at once that this worker has ended."""
        async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.delete(heartbeat_key(self._worker_id))
            pipe.zrem(LIVE_WORKERS_KEY, self._worker_id)
            await pipe.execute()
