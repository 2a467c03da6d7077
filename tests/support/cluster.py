"""Real clusters, started by the real command, each in a directory and on a port of its own."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil
from websockets.asyncio.client import ClientConnection, connect

from tests.support.hub_client import HubClient, hub_client
from tests.support.ports import unused_port
from tests.support.waiting import eventually, until
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus, WorkerStatus
from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.unix_http import request

WSD = (sys.executable, "-P", "-m", "wsd.supervisor")
ROOT = Path(__file__).parent.parent.parent

PROTOCOL = os.environ.get("WSD_TEST_PROTOCOL", "wsd")
"""The WebSocket protocol of workers. Under `uvicorn` the tests run as applications under other servers do."""


def clean_env(**changes: str) -> dict[str, str]:
    """Return the environment without variables that would change the settings of a cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WSD_") and not k.startswith(("REDIS_", "NODE_ID"))}
    return {**kept, "PYTHONPATH": "", "WSD_WEBSOCKET_PROTOCOL": PROTOCOL, **changes}


def wsd(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command of wsd to its end."""
    return subprocess.run(
        [*WSD, *arguments], cwd=cwd, env=env or clean_env(), capture_output=True, text=True, timeout=timeout
    )


FAST_HEALTH = """
[health]
heartbeat_interval = 0.2
heartbeat_timeout = 1.0
probe_timeout = 0.5
"""
"""Settings with which a hung worker is noticed within about a second."""


class Cluster:
    """A cluster that `wsd start` runs: `with Cluster(tmp_path, "--workers", "2") as cluster`.

    It is up when the block begins, and nothing of it is left when the block ends.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        config: str = "",
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or unused_port()
        self.arguments = [*arguments, "--port", str(self.port)]
        self.env = env or clean_env()
        self.output_path = directory / "output.txt"
        self.state_dir = StateDir(directory / ".wsd")
        if config:
            (directory / "wsd.toml").write_text(config)
        self.process: subprocess.Popen[bytes] | None = None
        self.command = [*WSD, "start", *self.arguments]
        self.pass_fds: tuple[int, ...] = ()

    def __enter__(self) -> Self:
        self.launch()
        self.wait_until_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
                self.process.wait(30)
        except subprocess.TimeoutExpired:
            for log in sorted(self.state_dir.logs.iterdir()):
                print(f"{log.name}:", log.read_text("utf-8", "replace"), sep="\n")
            raise
        finally:
            if exc is not None:
                print(self.output)
            self.kill()

    def launch(self) -> None:
        """Start the command; its output goes to a file."""
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=self.pass_fds,
            )

    def wait_until_up(self) -> None:
        until(lambda: "wsd is up" in self.output or not self.alive, "the banner")
        assert self.alive, self.output

    def kill(self) -> None:
        """Kill the processes that this cluster recorded as its own, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for record in self.state_dir.read_state().processes:
            try:
                process = psutil.Process(record.pid)
                if is_alive(record, self.state_dir.root):
                    os.killpg(record.pid, signal.SIGKILL)
                    process.wait(10)
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        return self.output_path.read_text("utf-8", "replace") if self.output_path.exists() else ""

    def log(self, name: str) -> str:
        return self.state_dir.log(name).read_text("utf-8", "replace")

    def signal(self, signum: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def wait(self, timeout: float = 30) -> int:
        assert self.process is not None
        return self.process.wait(timeout)

    def wsd(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return wsd(*arguments, cwd=self.directory, env=self.env, timeout=timeout)

    def wsd_elsewhere(self, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in another directory."""
        return wsd(*arguments, "--state-dir", str(self.state_dir.root), cwd=directory, env=clean_env())

    # Status

    def status(self) -> ClusterStatus:
        return msgspec.json.decode(ControlClient(self.state_dir).call("GET", "/v1/status"), type=ClusterStatus)

    def worker(self, slot: int) -> WorkerStatus:
        return self.status().workers[slot - 1]

    def is_healthy(self) -> bool:
        try:
            return self.status().state == "healthy"
        except (OSError, CommandError):
            return False

    def wait_until_healthy(self) -> None:
        until(self.is_healthy, "a healthy cluster")

    def replaced(self, slot: int, old_pid: int | None) -> WorkerStatus | None:
        """Return the new worker of a slot once it is ready, and None before."""
        worker = self.worker(slot)
        return worker if worker.state == "ready" and worker.pid != old_pid else None

    def get(self, path: str) -> tuple[int, bytes]:
        """Return the status and the body of a GET request to the public port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def health(self) -> tuple[int, Any]:
        """Return the status and the body of `GET /health` at the public port."""
        status, body = self.get("/health")
        return status, json.loads(body)

    def worker_health(self, slot: int) -> Any:
        """Return the body of `GET /health` at the socket of one worker."""
        _, body = request(self.state_dir.worker_socket(slot), "GET", "/health", 10)
        return json.loads(body)

    def pids(self) -> list[int]:
        status = self.status()
        seen: Sequence[ProcessStatus | None] = [
            status.supervisor,
            *status.workers,
            status.nginx,
            status.valkey,
            status.relay,
        ]
        found = [process.pid for process in seen if process is not None and process.pid is not None]
        return found + [child.pid for pid in found for child in psutil.Process(pid).children()]

    # Clients

    async def kill_worker(self, worker_id: str) -> None:
        """Kill a worker, and wait until another process has taken its place.

        A cluster is still called healthy in the moment before its supervisor notices that a process has ended.
        """
        (worker,) = [worker for worker in self.status().workers if worker.worker_id == worker_id]
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await eventually(lambda: self.replaced(worker.slot, worker.pid))

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone. Its processes serve on."""
        self.signal(signal.SIGKILL)
        self.wait()
        self.output_path.unlink()

    async def run(self, *arguments: str) -> str:
        """Run a command to its end while the event loop goes on, and return its output."""
        result = await asyncio.to_thread(self.wsd, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def assert_nothing_is_left(self, pids: list[int]) -> None:
        until(lambda: gone(pids), "all processes to be gone")
        left = {path.name for path in self.state_dir.root.iterdir()}
        assert left <= {"dashboard.key", "logs", "nginx", "valkey"}
        assert not self.state_dir.sockets.exists()
        assert not (self.state_dir.nginx / "nginx.pid").exists()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", self.port))

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def open(self, query: str = "") -> ClientConnection:
        """Open a connection through the public port, to whichever worker nginx picks."""
        return await connect(f"{self.url}?{query}", ping_interval=None)

    async def client(self, user_id: str = "someone") -> HubClient:
        return await hub_client(user_id, self)

    async def client_of(self, slot: int, user_id: str = "someone") -> HubClient:
        """Connect a client of one worker, through nginx.

        Connections to other workers stay open meanwhile, so that nginx goes on to the next worker.
        """
        elsewhere: list[HubClient] = []
        try:
            while (client := await self.client(user_id)).slot != slot:
                elsewhere.append(client)
                assert len(elsewhere) < 200, f"no connection reached worker {slot}"
            return client
        finally:
            for other in elsewhere:
                await other.close()


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)
