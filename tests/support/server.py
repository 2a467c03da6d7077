"""Plain ASGI servers, as people run them without wsd's supervisor."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.cluster import clean_env
from tests.support.ports import unused_port
from tests.support.waiting import until


@contextmanager
def uvicorn(directory: Path, app: str, *options: str, path: str = "/health", **env: str) -> Iterator[int]:
    """Run plain uvicorn on a free port, and yield the port once the path answers with 200."""
    port = unused_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning", *options]
    with serving(directory, command, port, env, path=path):
        yield port


@contextmanager
def serving(
    directory: Path, command: Sequence[str], port: int, env: dict[str, str], *, path: str = "/health"
) -> Iterator[None]:
    """Run a server until the block ends. The block begins once `path` answers with 200. The output is in server.log."""
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=clean_env(**env), stdout=output, stderr=output, start_new_session=True
        )
    try:
        until(lambda: process.poll() is not None or ready(port, path))
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ready(port: int, path: str = "/health") -> bool:
    try:
        return get(port, path)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def get(port: int, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


async def join(port: int) -> tuple[ClientConnection, dict[str, Any]]:
    connection = await connect(f"ws://127.0.0.1:{port}/ws?user_id=a", ping_interval=None)
    return connection, json.loads(await connection.recv())


async def join_each_of(port: int, workers: int) -> tuple[dict[str, ClientConnection], list[ClientConnection]]:
    """Connect until every worker has a client. Return these by worker id, and the clients beyond them.

    The kernel decides which worker gets a connection.
    """
    connections: dict[str, ClientConnection] = {}
    spare = []
    for _ in range(200):
        connection, welcome = await join(port)
        if welcome["worker_id"] in connections:
            spare.append(connection)
        else:
            connections[welcome["worker_id"]] = connection
        if len(connections) == workers:
            return connections, spare
    raise AssertionError(f"only {list(connections)} were reached")
