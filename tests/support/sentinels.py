"""A primary, its replica and three Sentinels: real servers on loopback, which tests kill and freeze."""

import math
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.support.ports import unused_port
from tests.support.waiting import until
from wsd.supervisor.services.valkey import find_binary

NAME = "chat"
"""The name under which the Sentinels know the primary."""


ASK_AGAIN_SECONDS = 12.0
"""Twice the failover-timeout, and some more."""


class Server:
    """One process of Valkey with a configuration file, as a server of data or as a Sentinel."""

    def __init__(self, directory: Path, *lines: str, sentinel: bool = False, password: str = "") -> None:
        self.port = unused_port()
        self.address = f"127.0.0.1:{self.port}"
        self._directory = directory
        self._password = password
        directory.mkdir()
        binary = find_binary()
        assert binary is not None
        self._command = [str(binary), "valkey.conf", *(["--sentinel"] if sentinel else [])]
        # Each write of the configuration by the server goes to this file.
        text = "\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", *lines])
        (directory / "valkey.conf").write_text(text + "\n")
        self.start()

    def start(self) -> None:
        """Start the process, with the configuration that it has written last."""
        with (self._directory / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self._directory, stdout=log, stderr=log)
        until(lambda: self.answers() or self.process.poll() is not None, f"{self.address} to answer")
        assert self.process.poll() is None, (self._directory / "valkey.log").read_text()

    def call(self, *command: Any) -> Any:
        """Return the answer to one command. Raises redis.RedisError."""
        with redis.Redis(
            port=self.port, password=self._password or None, socket_timeout=2, decode_responses=True
        ) as client:
            return client.execute_command(*command)

    def answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.call("PING"))
        return False

    def info(self, section: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("INFO", section)
        return answer

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class SentinelSet:
    """A primary with its replicas, and three Sentinels with a quorum of two.

    `down_after` is how many seconds a primary must be silent before the Sentinels replace it. `password` is that of
    the servers, `sentinel_password` that of the Sentinels. With `min_replicas`, the primary refuses writes while fewer
    replicas have answered in the last second.
    """

    def __init__(
        self,
        directory: Path,
        *,
        down_after: float = 1.0,
        password: str = "",
        sentinel_password: str = "",
        min_replicas: int = 0,
        replicas: int = 1,
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self.password = password
        self.sentinel_password = sentinel_password
        self.servers: list[Server] = []
        self.sentinels: list[Server] = []
        try:
            self._start_servers(directory, min_replicas, replicas)
            self._start_sentinels(directory, down_after)
        except BaseException:
            self.stop()
            raise

    def _start_servers(self, directory: Path, min_replicas: int, replicas: int) -> None:
        lines = [
            'save ""',
            "appendonly no",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            f"min-replicas-to-write {min_replicas}",
            "min-replicas-max-lag 2",
        ]
        if self.password:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        for number in range(1, replicas + 2):
            follows = [f"replicaof 127.0.0.1 {self.servers[0].port}"] if self.servers else []
            place = directory / f"server-{number}"
            self.servers.append(Server(place, *lines, *follows, password=self.password))
        last = f"slave{replicas - 1}"
        until(lambda: self.servers[0].info("replication").get(last, {}).get("state") == "online", "the replicas")

    def _start_sentinels(self, directory: Path, down_after: float) -> None:
        lines = [
            f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {NAME} {down_after * 1000:.0f}",
            f"sentinel failover-timeout {NAME} 5000",
        ]
        if self.password:
            lines.append(f"sentinel auth-pass {NAME} {self.password}")
        if self.sentinel_password:
            lines += [f"requirepass {self.sentinel_password}", f"sentinel sentinel-pass {self.sentinel_password}"]
        for number in (1, 2, 3):
            place = directory / f"sentinel-{number}"
            self.sentinels.append(Server(place, *lines, sentinel=True, password=self.sentinel_password))
        until(lambda: all(self.knows_all(sentinel) for sentinel in self.sentinels), "the Sentinels to know each other")

    @property
    def url(self) -> str:
        """The URL of the primary for wsd."""
        user = f":{self.password}@" if self.password else ""
        return f"redis+sentinel://{user}{','.join(sentinel.address for sentinel in self.sentinels)}/{NAME}"

    def state(self, sentinel: Server) -> dict[str, str]:
        """Return what a Sentinel says about the primary (SENTINEL MASTER)."""
        answer: dict[str, str] = sentinel.call("SENTINEL", "MASTER", NAME)
        return answer

    def knows_all(self, sentinel: Server) -> bool:
        state = self.state(sentinel)
        return int(state["num-other-sentinels"]) == 2 and int(state["num-slaves"]) == len(self.servers) - 1

    @property
    def primary(self) -> Server:
        """The server that the first Sentinel that answers takes for the primary."""
        for sentinel in self.sentinels:
            with suppress(redis.RedisError):
                _, port = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
                return next(server for server in self.servers if server.port == int(port))
        raise AssertionError("no Sentinel answers")

    @property
    def replica(self) -> Server:
        return next(server for server in self.servers if server is not self.primary)

    def fail_over(self) -> None:
        """Ask a Sentinel for a failover, and wait until all name the new primary.

        Sentinel gives a failover up if its replica does not obey in time. It is asked again then.
        """
        before = self.primary
        asked_at = -math.inf

        def switched() -> bool:
            nonlocal asked_at
            if time.monotonic() > asked_at + ASK_AGAIN_SECONDS:
                asked_at = time.monotonic()
                with suppress(redis.ResponseError):  # one is under way, or no replica is good at the moment
                    self.sentinels[0].call("SENTINEL", "FAILOVER", NAME)
            return all(self.names(sentinel) != before.port for sentinel in self.sentinels)

        until(switched, "another primary", patience=60)

    @contextmanager
    def switching(self) -> Iterator[Server]:
        """Yield the primary, and wait after the block until all Sentinels name another one."""
        before = self.primary
        yield before
        until(lambda: all(self.names(sentinel) != before.port for sentinel in self.sentinels), "another primary")

    def names(self, sentinel: Server) -> int:
        """Return the port of the primary that a Sentinel names."""
        return int(sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def until_whole(self) -> None:
        """Wait until the primary has its replica again, so that the next failover can succeed."""

        def whole() -> bool:
            with suppress(redis.RedisError):
                primary, replica = self.primary, self.replica
                link = replica.info("replication")
                return link.get("master_link_status") == "up" and int(link.get("master_port", 0)) == primary.port
            return False

        until(whole, "the primary to have its replica")

    def stop(self) -> None:
        for server in [*self.sentinels, *self.servers]:
            if server.process.poll() is None:
                server.wake()
                server.kill()
        # A server that a test's own program has killed and started again is no child of this process.
        for process in psutil.process_iter(["cwd"]):
            if self._directory in Path(process.info["cwd"] or "/").parents:
                process.kill()
                process.wait(10)


@contextmanager
def sentinel_set(directory: Path, **options: Any) -> Iterator[SentinelSet]:
    running = SentinelSet(directory, **options)
    try:
        yield running
    finally:
        running.stop()
