"""The faults of a Redis that Sentinels watch: failovers that are asked for, killed and frozen primaries."""

import asyncio
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from redis.exceptions import RedisError

from wsd.supervisor.chaos.starting import start_again
from wsd.supervisor.config.settings import RedisConfig
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.redis_client import sentinels_of, server_url
from wsd.worker.contract.redis_address import SentinelAddress, sentinel_address
from wsd.worker.contract.sentinels.connection import ErrorAnswer, SentinelError, connected

SWITCH_SECONDS = 30.0
"""How long the Sentinels may take to name another primary."""

FAILOVER_ATTEMPTS = 2
"""How often a failover is asked for: Sentinel gives one up if the replica does not obey in time."""

WHOLE_SECONDS = 60.0
"""How long the old primary may take to follow the new one. Before that, another failover could not succeed."""

LOOK_SECONDS = 0.1

ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class _Server:
    """The process of a server on this machine."""

    pid: int
    executable: str
    config_file: str
    directory: Path

    def start(self) -> None:
        """Start the server again, with the configuration that it has written last."""
        start_again([self.executable, self.config_file], self.directory)


class RedisFaults:
    """Faults of the primary. One at a time, and each only when the servers have recovered from the one before."""

    def __init__(self, settings: RedisConfig) -> None:
        """`settings` say how the cluster reaches its Redis."""
        self._settings = settings
        self._turn = asyncio.Lock()

    def are_possible(self) -> bool:
        """Tell whether Sentinels watch the Redis, and its primary runs on this machine."""
        if self._address is None:
            return False
        try:
            _process_of(asyncio.run(self._primary()))
        except CommandError:
            return False
        return True

    async def fail_over(self) -> str:
        """Ask for a failover. Raises CommandError."""
        async with self._turn:
            before = await self._until_whole()
            for attempts_left in reversed(range(FAILOVER_ATTEMPTS)):
                await self._ask_sentinels("FAILOVER")
                try:
                    await self._until_switched(before)
                except CommandError:
                    if not attempts_left:
                        raise
                else:
                    break
            return "failed over as asked"

    async def kill(self) -> str:
        """Kill the primary, and start it again once there is another one. Raises CommandError."""
        async with self._turn:
            before = await self._until_whole()
            server = await asyncio.to_thread(_process_of, before)
            os.kill(server.pid, signal.SIGKILL)
            try:
                seconds = await self._until_switched(before)
            finally:
                server.start()
            return f"killed the primary, another one after {seconds:.1f} s"

    async def freeze(self, longer: float) -> str:
        """Stop the primary until there is another one, and for `longer` seconds after that. Raises CommandError."""
        async with self._turn:
            before = await self._until_whole()
            server = await asyncio.to_thread(_process_of, before)
            os.kill(server.pid, signal.SIGSTOP)
            try:
                seconds = await self._until_switched(before)
                await asyncio.sleep(longer)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            return f"froze the primary for {seconds + longer:.1f} s, another one after {seconds:.1f} s"

    @property
    def _address(self) -> SentinelAddress | None:
        return sentinel_address(self._settings.url)

    async def _primary(self) -> str:
        """Return the URL of the primary. Raises CommandError."""
        try:
            return await server_url(self._settings, self._settings.url)
        except (SentinelError, OSError) as exc:
            raise CommandError(f"the Sentinels name no primary: {exc}") from None

    async def _until_switched(self, before: str) -> float:
        """Wait until the Sentinels name another primary, and return how many seconds that took. Raises CommandError."""
        begun = time.monotonic()
        while await self._primary() == before:
            if time.monotonic() - begun > SWITCH_SECONDS:
                raise CommandError(f"the Sentinels name no other primary after {SWITCH_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - begun

    async def _until_whole(self) -> str:
        """Wait until all replicas follow the primary, and return the URL of the primary. Raises CommandError."""
        gives_up_at = time.monotonic() + WHOLE_SECONDS
        while True:
            try:
                primary = await self._primary()
                expected = await self._count_replicas()
                if await asyncio.to_thread(_online_replicas, primary) >= max(1, expected):
                    return primary
                problem = "not all of its replicas follow it"
            except CommandError as exc:
                problem = str(exc)
            if time.monotonic() > gives_up_at:
                raise CommandError(f"the primary is not ready for a fault: {problem}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _ask_sentinels(self, command: str) -> Any:
        """Send `SENTINEL command NAME` to one Sentinel after the other, and return the first answer.

        Raises CommandError when none carries it out.
        """
        sentinels = sentinels_of(self._settings, self._settings.url)
        assert sentinels is not None
        problem: object = ""
        for place in sentinels.places:
            try:
                async with asyncio.timeout(ANSWER_SECONDS), connected(place, sentinels.login) as connection:
                    return await connection.ask("SENTINEL", command, sentinels.name)
            except (OSError, ValueError, ErrorAnswer) as exc:
                problem = exc
        raise CommandError(f"no Sentinel carries out {command}: {problem}")

    async def _count_replicas(self) -> int:
        return len(await self._ask_sentinels("REPLICAS"))


def _online_replicas(url: str) -> int:
    """Return how many replicas follow the server. Raises CommandError."""
    try:
        with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as client:
            info = client.info("replication")
    except (RedisError, OSError) as exc:
        raise CommandError(f"the primary does not answer: {exc}") from None
    replicas = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
    return sum(replica.get("state") == "online" for replica in replicas)


def _process_of(url: str) -> _Server:
    """Find the process of a server on this machine. Raises CommandError when it is none of ours."""
    try:
        with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as client:
            info = client.info("server")
        process = psutil.Process(int(info["process_id"]))
        ports = {found.laddr.port for found in process.net_connections() if found.status == psutil.CONN_LISTEN}
        # Another machine may have a process of this number, too. Its port would have to be the same by chance.
        if int(info["tcp_port"]) not in ports or not info.get("config_file"):
            raise CommandError("the primary does not run on this machine, with a configuration file")
        return _Server(process.pid, info["executable"], info["config_file"], Path(process.cwd()))
    except (RedisError, OSError, psutil.Error, KeyError) as exc:
        raise CommandError(f"the process of the primary cannot be found: {exc}") from None
