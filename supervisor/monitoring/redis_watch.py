"""The supervisor's view of Redis: the heartbeats of its workers, and the lease that keeps a node id unique."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from wsd.supervisor.monitoring.redis_client import open_redis
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors, role_problem, server_mode
from wsd.supervisor.nodes.records import GONE_SECONDS, NodeIdentity, NodeRecord, NodeState, SeenNode, seen_nodes
from wsd.supervisor.processes.clock import AwakeClock
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.redis_address import Place, shown
from wsd.worker.contract.redis_keys import LIVE_WORKERS_KEY, NODES_KEY, heartbeat_key, node_key
from wsd.worker.contract.sentinels.sentinels import Sentinels

logger = logging.getLogger(__name__)

# Take or renew the lease and return nothing, or return the record of the holder if another owner has it.
# KEYS: the lease, the index of nodes. ARGV: owner, record (JSON), ttl in ms, node id, and how many ms a node that is
# gone stays in the index.
LEASE_SCRIPT = """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held).owner ~= ARGV[1] then
    return held
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[5])
return false
"""


class RedisWatch:
    """A connection to Redis that is asked at intervals, and what its answers were.

    - `error`: why Redis could not be used when it was last asked, or None;
    - `answered_at`: when Redis last answered, also with an error, by the clock of the watch;
    - `other_holder`: the host and pid that hold the lease of our node id, or None while we hold it;
    - `beats`: the heartbeats of all workers of all nodes at the last `survey`;
    - `nodes`: the nodes at the last `survey`, also those that have been gone for up to GONE_SECONDS;
    - `info`: what Redis reported about its memory and its disk (INFO) at the last `survey`;
    - `sentinels`: those that name the primary, or None.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        timeout: float,
        node_id: str,
        identity: NodeIdentity,
        describe: Callable[[], NodeState],
        lease_ttl: float,
        clock: AwakeClock,
        sentinels: Sentinels | None = None,
    ) -> None:
        """Prepare the connection; `greet` opens it. Times are in seconds. `sentinels` are those of the URL.

        The record of the node consists of `identity` and of what `describe` returns at each look.

        Raises ValueError when the URL is malformed.
        """
        self.error: RedisUnusableError | None = None
        self._clock = clock
        self.answered_at = clock.now()
        self.other_holder: str | None = None
        self.beats: list[Heartbeat] = []
        self.nodes: list[SeenNode] = []
        self.info: Mapping[str, Any] = {}
        self._node_id = node_id
        self.sentinels = sentinels
        if sentinels is not None:
            sentinels.on_switch = self._primary_switched
        self._url = url
        self._redis = open_redis(url, sentinels, connect_timeout=connect_timeout, timeout=timeout)
        self._lease = self._redis.register_script(LEASE_SCRIPT)
        self._lease_ms = int(lease_ttl * 1000)
        self._node_key = node_key(node_id)
        self._identity = identity
        self._describe = describe

    async def greet(self) -> None:
        """Connect for the first time, and take the lease of the node id unless there is an `other_holder`.

        Raises RedisUnusableError.
        """
        try:
            with redis_errors():
                await self._check_role()
                await self._hold_lease()
        except RedisUnusableError as exc:
            self.error = exc
            raise

    async def take_lease(self) -> None:
        """Try once more to take the lease of the node id. Raises RedisUnusableError."""
        with redis_errors():
            await self._hold_lease()

    async def lease_left(self) -> float:
        """Return the seconds until the lease of the node id ends, 0 without a lease. Raises RedisUnusableError."""
        with redis_errors():
            return max(0.0, await self._redis.pttl(self._node_key) / 1000)

    async def _check_role(self) -> None:
        try:
            info = {**await self._redis.info("server"), **await self._redis.info("replication")}
            if server_mode(info) == "sentinel":
                info |= await self._redis.info("sentinel")
        except ResponseError:
            return  # the Redis user may not call INFO; the first write will fail on a wrong server
        if problem := role_problem(info, self._url):
            raise RedisUnusableError(problem, wrong_server=problem)

    def _primary_switched(self, old: Place, new: Place) -> None:
        """Note a failover. The connections to the old primary are dropped already."""
        text = "the Sentinels name another primary: %s in place of %s"
        logger.warning(text, shown(new), shown(old), extra=EVENT)

    async def look(self, worker_ids: Sequence[str]) -> dict[str, Heartbeat]:
        """Read the heartbeats of these workers, and renew the lease.

        Returns the heartbeats that Redis has, by worker id. Does not raise: a failure is kept in `error`.
        """
        holder_before = self.other_holder
        beats: dict[str, Heartbeat] = {}
        try:
            with redis_errors():
                beats = await self._heartbeats(worker_ids)
                await self._hold_lease()  # our only write, and so the one that a full disk or memory makes fail
        except RedisUnusableError as exc:
            if self.error is None or exc.summary != self.error.summary:
                logger.warning("%s: %s", exc.summary, exc)
            self.error = exc
            if exc.has_answered:
                self.answered_at = self._clock.now()
            return beats
        if self.error is not None:
            logger.info("Redis can be used again")
        if self.other_holder is not None and self.other_holder != holder_before:
            logger.error(
                'node id "%s" is also live on %s: give one of the two nodes another --node-id',
                self._node_id,
                self.other_holder,
            )
        self.error = None
        self.answered_at = self._clock.now()
        return beats

    async def survey(self) -> None:
        """Read `beats`, `nodes` and `info`: they change slowly, or concern other nodes. Empty when Redis fails."""
        try:
            with redis_errors():
                live: Any = await self._redis.zrange(LIVE_WORKERS_KEY, 0, -1)
                self.beats = list((await self._heartbeats([worker_id.decode() for worker_id in live])).values())
                self.nodes = await self._seen_nodes()
                self.info = {**await self._redis.info("memory"), **await self._redis.info("persistence")}
        except RedisUnusableError:
            self.beats, self.nodes, self.info = [], [], {}

    async def close(self, *, keep_lease: bool = False) -> None:
        """Return the lease, unless `keep_lease` or Redis does not answer, and disconnect."""
        try:
            with redis_errors():
                if self.error is None and not keep_lease:
                    await self._hold_lease()
                    if self.other_holder is None:
                        await self._redis.delete(self._node_key)
                        await self._redis.zrem(NODES_KEY, self._node_id)
        except RedisUnusableError as exc:
            logger.info("the lease of the node id is left to expire: %s", exc)
        await self._redis.aclose()

    async def _hold_lease(self) -> None:
        record = NodeRecord.of(self._identity, self._describe(), self._lease_ms)
        arguments: list[str | int] = [
            self._identity.owner,
            record.to_json(),
            self._lease_ms,
            self._node_id,
            GONE_SECONDS * 1000,
        ]
        held = await self._lease(keys=[self._node_key, NODES_KEY], args=arguments)
        if held is None:
            self.other_holder = None
            return
        try:
            holder = NodeRecord.from_json(held)
            self.other_holder = f"host {holder.host} (pid {holder.pid})"
        except ValueError:  # not written by wsd
            self.other_holder = "an unknown host"

    async def _seen_nodes(self) -> list[SeenNode]:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(NODES_KEY, 0, -1, withscores=True)
            (seconds, micros), found = await pipe.execute()
        expiries = [(node_id.decode(errors="replace"), float(expires_ms)) for node_id, expires_ms in found]
        async with self._redis.pipeline(transaction=False) as pipe:
            for node_id, _ in expiries:
                pipe.get(node_key(node_id))
                pipe.pttl(node_key(node_id))
            answers = await pipe.execute()
        leases = zip(answers[::2], answers[1::2], strict=True)
        return seen_nodes(seconds * 1000 + micros / 1000, expiries, leases)

    async def _heartbeats(self, worker_ids: Sequence[str]) -> dict[str, Heartbeat]:
        if not worker_ids:
            return {}
        # One command per key and not MGET, whose keys would all have to be on one server.
        async with self._redis.pipeline(transaction=False) as pipe:
            for worker_id in worker_ids:
                pipe.get(heartbeat_key(worker_id))
            found = await pipe.execute()
        beats: dict[str, Heartbeat] = {}
        for worker_id, text in zip(worker_ids, found, strict=True):
            with suppress(ValueError):  # another program's value at our key is no heartbeat
                if text is not None:
                    beats[worker_id] = Heartbeat.from_json(text)
        return beats
