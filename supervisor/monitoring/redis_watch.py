"""The supervisor's view of Redis: its workers' heartbeats, and the lease that makes a NODE_ID live once only."""

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from wsd.supervisor import quoting
from wsd.supervisor.machine.procfs import boot_id
from wsd.supervisor.processes.clock import AwakeClock
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.redis_keys import LIVE_WORKERS_KEY, heartbeat_key, node_key

logger = logging.getLogger(__name__)

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
    """Looks at Redis whenever it is told to, and remembers what it saw.

    `error` is None while Redis can be used, else the error itself, and `trouble` says it in words; `answered_at` is
    when Redis last answered, with whatever, by the clock of the watch; `rival` is who holds our node's lease instead of
    us; `beats` are those of all workers of all nodes, and `info` what it tells of its memory and its disk, as of the
    last `survey`.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        timeout: float,
        node_id: str,
        state_dir: Path,
        lease_ttl: float,
        clock: AwakeClock,
    ) -> None:
        """Nothing is connected yet. Times in seconds. Raises ValueError when the URL is malformed."""
        self.error: Exception | None = None
        self._clock = clock
        self.answered_at = clock.now()
        self.rival: str | None = None
        self.beats: list[Heartbeat] = []
        self.info: Mapping[str, Any] = {}
        self._node_id = node_id
        self._redis = Redis.from_url(
            url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._lease = self._redis.register_script(LEASE_SCRIPT)
        self._lease_ms = int(lease_ttl * 1000)
        self._node_key = node_key(node_id)
        host = socket.gethostname()
        # Who holds the state directory's lock is this owner's only process: a lease left by a crash is ours.
        self._owner = f"{host}:{boot_id()}:{quoting.encodable(state_dir)}"
        self._holder = json.dumps({"owner": self._owner, "host": host, "pid": os.getpid()})

    async def greet(self) -> None:
        """The first look: takes the node's lease, unless it has a `rival`.

        Raises RedisError or OSError, WrongServerError among them.
        """
        try:
            await self._check_role()
            await self._hold_lease()
        except (RedisError, OSError) as exc:
            self.error = exc
            raise

    async def _check_role(self) -> None:
        """Raises WrongServerError where no wait would help, RedisError or OSError."""
        try:
            info = {**await self._redis.info("server"), **await self._redis.info("replication")}
        except ResponseError:
            return  # a user who may not ask; what is written next tells as well
        if problem := role_problem(info):
            raise WrongServerError(problem)

    async def look(self, worker_ids: Sequence[str]) -> dict[str, Heartbeat]:
        """Read the heartbeats of these workers that are there, and renew the lease."""
        rival_before = self.rival
        beats: dict[str, Heartbeat] = {}
        try:
            beats = await self._heartbeats(worker_ids)
            await self._hold_lease()  # the one thing that is written, and refused where the disk or the memory is full
        except (RedisError, OSError) as exc:
            _raise_if_cancelled()
            if self.error is None or trouble(exc) != trouble(self.error):
                logger.warning("%s: %s", trouble(exc), text_of(exc))
            self.error = exc
            if has_answered(exc):
                self.answered_at = self._clock.now()
            return beats
        _raise_if_cancelled()
        if self.error is not None:
            logger.info("Redis can be used again")
        if self.rival is not None and self.rival != rival_before:
            logger.error('node id "%s" is live on %s, too', self._node_id, self.rival)
        self.error = None
        self.answered_at = self._clock.now()
        return beats

    async def survey(self) -> None:
        """What changes slowly, or is of other nodes."""
        try:
            live: Any = await self._redis.zrange(LIVE_WORKERS_KEY, 0, -1)
            self.beats = list((await self._heartbeats([worker_id.decode() for worker_id in live])).values())
            self.info = {**await self._redis.info("memory"), **await self._redis.info("persistence")}
        except (RedisError, OSError):
            self.beats, self.info = [], {}
        _raise_if_cancelled()

    async def close(self, *, keep_lease: bool = False) -> None:
        """Give the lease back, as far as Redis answers, and disconnect."""
        try:
            if self.error is None and not keep_lease:
                await self._hold_lease()
                if self.rival is None:
                    await self._redis.delete(self._node_key)
        except (RedisError, OSError) as exc:
            logger.info("node lease left to expire: %s", exc)
        await self._redis.aclose()

    async def _hold_lease(self) -> None:
        held = await self._lease(keys=[self._node_key], args=[self._owner, self._holder, self._lease_ms])
        if held is None:
            self.rival = None
            return
        try:
            holder = json.loads(held)
            self.rival = f"host {holder['host']} (pid {holder['pid']})"
        except (ValueError, KeyError, TypeError, RecursionError):  # no wsd has written that
            self.rival = "a host that does not say its name"

    async def _heartbeats(self, worker_ids: Sequence[str]) -> dict[str, Heartbeat]:
        if not worker_ids:
            return {}
        # One command a key: on a cluster they may live on different servers.
        async with self._redis.pipeline(transaction=False) as pipe:
            for worker_id in worker_ids:
                pipe.get(heartbeat_key(worker_id))
            found = await pipe.execute()
        beats: dict[str, Heartbeat] = {}
        for worker_id, text in zip(worker_ids, found, strict=True):
            with suppress(ValueError):  # somebody else's value at our key is no heartbeat
                if text is not None:
                    beats[worker_id] = Heartbeat.from_json(text)
        return beats


class WrongServerError(RedisError):
    """The URL leads to a server that cannot be the Redis of a cluster, however long one waits."""


def role_problem(info: Mapping[str, Any]) -> str | None:
    """Say why a server cannot serve, by what it tells of itself (INFO server, replication), or None."""
    if info.get("redis_mode") == "cluster":
        return "leads to a Redis Cluster, which wsd does not speak: name a single Redis or Valkey"
    if info.get("redis_mode") == "sentinel":
        return "leads to a Sentinel: name the primary that it watches"
    if info.get("role") in ("slave", "replica"):
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return f"leads to a replica, which stores nothing: name its primary, {primary}"
    return None


def wrong_server(error: Exception) -> str | None:
    """Say the same by how a server answered to a user who may not ask what it is."""
    if isinstance(error, WrongServerError):
        return str(error)
    if isinstance(error, ReadOnlyError):
        return "leads to a replica, which stores nothing: name its primary"
    if isinstance(error, AskError | ClusterDownError | ClusterCrossSlotError):  # MOVED is an AskError
        return role_problem({"redis_mode": "cluster"})
    return None


def has_answered(error: Exception) -> bool:
    """Tell whether an error is an answer of Redis. Any answer is a sign of life: a refusal is no hang."""
    # redis-py counts some answers as errors of the connection.
    answers = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
    return isinstance(error, answers) or wrong_server(error) is not None or "max number of clients" in str(error)


TROUBLES = {
    "MISCONF": "Redis refuses to write: it cannot write to its disk",
    "OOM": "Redis refuses to write: its memory is full",
    "READONLY": "Redis refuses to write: it is a replica",
    "NOREPLICAS": "Redis refuses to write: it has too few replicas",
    "LOADING": "Redis loads its data",
    "BUSY": "Redis is busy with a script",
    "MASTERDOWN": "Redis is a replica without its primary",
    "NOAUTH": "Redis refuses us: the user or the password is missing or wrong",
    "WRONGPASS": "Redis refuses us: the user or the password is missing or wrong",
    "NOPERM": "Redis refuses us: the user lacks a permission",
}
"""What an answer says, by its first word. A script, and a pipeline of redis-py, put it into a sentence of their own."""

_CODE = re.compile(rf"(?:^|caused error: (?:\(['\"])?|@user_script.*: -?)({'|'.join(TROUBLES)})\b")

# redis-py takes the first word off the text of errors that it has a class for.
_CODE_OF = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    MasterDownError: "MASTERDOWN",
}


def trouble(error: Exception) -> str:
    """Say in a few words why Redis cannot be used."""
    if not has_answered(error):
        return "Redis does not answer"
    code = _code_of(error)
    if code == "MISCONF" and "No space left" in str(error):
        return "Redis refuses to write: its disk is full"
    return TROUBLES.get(code, "Redis refuses us")


def stores_nothing(error: Exception) -> bool:
    """Tell whether Redis is there for the workers and refuses what it is to store: its disk or its memory is full."""
    return _code_of(error) in ("MISCONF", "OOM")


def _code_of(error: Exception) -> str:
    """Return the first word of an answer, as TROUBLES knows it, or nothing."""
    found = _CODE.search(str(error))
    return found[1] if found else _CODE_OF.get(type(error), "")


def text_of(error: Exception) -> str:
    """Return the text of an error, or its name where it has none."""
    return str(error) or type(error).__name__


def is_refusal(error: Exception) -> bool:
    """Whether Redis is there but will not have us: wrong password, no permission. Waiting does not mend that."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return True
    return isinstance(error, ResponseError) and str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM"))


def _raise_if_cancelled() -> None:
    """redis-py sends with asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes while
    the send completes: to go on after it would leave who cancelled waiting for ever."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
