"""The supervisor's view of Redis: its workers' heartbeats, and the lease that makes a NODE_ID live once only."""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError, ResponseError

from wsd.worker.contract import Heartbeat, heartbeat_key, node_key

__all__ = ["RedisError", "RedisWatch", "is_refusal"]

# Take or renew the lease, unless another owner has it; then say who. KEYS lease; ARGV owner, holder, ttl in ms.
LEASE_SCRIPT = """
local held = redis.call('GET', KEYS[1])
if held and cjson.decode(held).owner ~= ARGV[1] then
    return held
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""


class RedisWatch:
    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        timeout: float,
        node_id: str,
        state_dir: Path,
        lease_ttl: float,
    ) -> None:
        """Nothing is connected yet. Times in seconds. Raises ValueError when the URL is malformed."""
        self._redis = Redis.from_url(
            url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._lease = self._redis.register_script(LEASE_SCRIPT)
        self._lease_ms = int(lease_ttl * 1000)
        self._node_key = node_key(node_id)
        host = socket.gethostname()
        # Who holds the state directory's lock is this owner's only process: a lease left by a crash is ours.
        self._owner = f"{host}:{_boot_id()}:{state_dir}"
        self._holder = json.dumps({"owner": self._owner, "host": host, "pid": os.getpid()})

    async def ping(self) -> None:
        """Raises RedisError or OSError."""
        await self._redis.get(self._node_key)  # PING needs no permission, this does

    async def heartbeats(self, worker_ids: Mapping[int, str]) -> dict[int, Heartbeat]:
        """The heartbeats of these workers (by slot) that are there. Raises RedisError or OSError."""
        if not worker_ids:
            return {}
        found = await self._redis.mget([heartbeat_key(worker_id) for worker_id in worker_ids.values()])
        beats: dict[int, Heartbeat] = {}
        for slot, text in zip(worker_ids, found, strict=True):
            with suppress(ValueError):  # somebody else's value at our key is no heartbeat
                if text is not None:
                    beats[slot] = Heartbeat.from_json(text)
        return beats

    async def hold_node(self) -> str | None:
        """Take or renew the node's lease. Who holds it instead, or None. Raises RedisError or OSError."""
        held = await self._lease(keys=[self._node_key], args=[self._owner, self._holder, self._lease_ms])
        if held is None:
            return None
        holder = json.loads(held)
        return f"host {holder['host']} (pid {holder['pid']})"

    async def close(self, release: bool) -> None:
        """Disconnect; with `release`, give the node's lease back first, as far as Redis answers."""
        try:
            if release and await self.hold_node() is None:
                await self._redis.delete(self._node_key)
        except (RedisError, OSError):
            pass  # it expires by itself
        await self._redis.aclose()


def is_refusal(error: Exception) -> bool:
    """Whether Redis is there but will not have us: wrong password, or no permission. Waiting does not mend that."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM"))


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
