"""Worker processes, run as a supervisor runs them, without a supervisor."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, unix_connect

from tests.support.cluster import PROTOCOL, clean_env
from tests.support.waiting import until
from wsd.supervisor.unix_http import UnixConnection, request
from wsd.worker.contract.environment import WorkerEnv

NOTHING: Mapping[str, str] = {}

_opened: list[ClientConnection] = []


async def close_opened() -> None:
    """Close the connections that a test has opened and not closed."""
    while _opened:
        connection = _opened.pop()
        connection.transport.abort()
        await connection.wait_closed()


class RawBody(str):
    """A body that is sent as it is, not as JSON."""


class Worker:
    def __init__(self, directory: Path, environ: Mapping[str, str] = NOTHING, /, **changes: Any) -> None:
        self.path = directory / "worker.sock"
        fields: dict[str, Any] = {"worker_id": "worker-1-test", "node_id": "n", "bind_path": str(self.path)}
        fields["protocol"] = PROTOCOL
        env = WorkerEnv(**{**fields, **changes})
        self.log = directory / "worker.log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "wsd.worker"]
            environment = clean_env(**{**env.to_env(), **environ})
            self.process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)

    def health(self) -> tuple[int, Any]:
        try:
            status, body = request(self.path, "GET", "/health", 5)
        except (FileNotFoundError, ConnectionRefusedError):
            return 0, {}
        return status, json.loads(body)

    def request(
        self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Send a request. Return the status, and the body decoded from JSON or else as text."""
        connection = UnixConnection(self.path, 10)
        try:
            text = body if body is None or isinstance(body, RawBody) else json.dumps(body)
            connection.request(method, target, text, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
            return response.status, json.loads(text) if text.startswith(("{", "[")) else text
        finally:
            connection.close()

    def check_unharmed(self) -> None:
        """Check that the process runs and has logged no traceback."""
        log = self.log.read_text()
        assert self.process.poll() is None, log
        assert "Traceback" not in log, log[-5000:]

    async def connect(self, user_id: str = "a") -> ClientConnection:
        connection, _ = await self.join(user_id)
        return connection

    async def open(self, query: str = "", **options: Any) -> ClientConnection:
        """Open a connection, which the worker may still refuse."""
        connection = await unix_connect(str(self.path), f"ws://localhost/ws?{query}", ping_interval=None, **options)
        _opened.append(connection)
        return connection

    async def join(self, user_id: str = "a") -> tuple[ClientConnection, str]:
        """Open a connection and wait for its welcome. Return the connection and its session id."""
        connection = await self.open(f"user_id={user_id}")
        welcome = json.loads(await connection.recv())
        assert welcome["type"] == "welcome"
        return connection, welcome["session_id"]


@contextmanager
def worker(directory: Path, environ: Mapping[str, str] = NOTHING, /, **changes: Any) -> Iterator[Worker]:
    running = Worker(directory, environ, **changes)
    try:
        until(lambda: running.health()[0] == 200 or running.process.poll() is not None)
        assert running.process.poll() is None, running.log.read_text()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


@contextmanager
def workers(directory: Path, count: int, **changes: Any) -> Iterator[list[Worker]]:
    """Run worker-1 on node-1, worker-2 on node-2 and so on. The block begins once each has seen all heartbeats."""
    with ExitStack() as stack:
        running = []
        for number in range(1, count + 1):
            own = directory / f"worker-{number}"
            own.mkdir(exist_ok=True)
            names = {"worker_id": f"worker-{number}", "node_id": f"node-{number}", "heartbeat_interval": 0.2}
            running.append(stack.enter_context(worker(own, **{**names, **changes})))
        until(lambda: all(one.health()[1]["websocket"]["total_workers"] == count for one in running))
        yield running
