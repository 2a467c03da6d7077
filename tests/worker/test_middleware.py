"""Without a supervisor: the hub and one's own application under plain uvicorn, in memory and over Redis."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.cluster.harness import Cluster, clean_env
from tests.conftest import unused_port
from tests.valkey import valkey
from tests.waiting import until
from wsd.worker.websocket_middleware import HEADERS

pytestmark = pytest.mark.anyio

OWN_APP = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from wsd.worker import WebSocketMiddleware

async def home(request):
    return JSONResponse({"worker": request.state.websocket_manager.worker_id})

app = Starlette(routes=[Route("/", home)])
app.add_middleware(WebSocketMiddleware, headers=["X-WebSocket-Worker-ID"])
"""


@contextmanager
def uvicorn(directory: Path, app: str, *options: str, **env: str) -> Iterator[int]:
    """Plain uvicorn on a free port; yields it once /health answers."""
    port = unused_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning", *options]
    with (directory / "uvicorn.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=clean_env(**env), stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: process.poll() is not None or ready(port))
        assert process.poll() is None, (directory / "uvicorn.log").read_text()
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ready(port: int) -> bool:
    try:
        return get(port, "/health")[0] == 200
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


async def test_the_hub_alone_in_memory(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "wsd.worker.app:app", DISTRIBUTED_WEBSOCKET_ENABLED="false", REDIS_URL="redis://x") as port:
        one, welcome = await join(port)
        two, _ = await join(port)
        assert welcome["worker_id"].startswith("worker-")
        await one.send('{"text": "hi"}')
        assert json.loads(await two.recv())["data"] == {"text": "hi"}
        status, headers, body = get(port, "/health")
        assert (status, json.loads(body)["status"]) == (200, "healthy")
        assert headers["X-WebSocket-Local-Connections"] == "2"
        assert headers["X-WebSocket-Worker-ID"] == welcome["worker_id"]
        assert headers["X-WebSocket-Total-Sessions"] == "2"
        assert headers["X-WebSocket-Total-Workers"] == "1"
        await one.close()
        await two.close()


async def test_four_plain_uvicorn_workers_are_one_cluster(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        uvicorn(tmp_path, "wsd.worker.app:app", "--workers", "4", REDIS_URL=url) as port,
    ):
        connections: dict[str, ClientConnection] = {}
        spare = []
        for _ in range(200):  # the kernel picks the worker
            connection, welcome = await join(port)
            if welcome["worker_id"] in connections:
                spare.append(connection)
            else:
                connections[welcome["worker_id"]] = connection
            if len(connections) == 4:
                break
        assert len(connections) == 4, "each process has an id of its own"
        first, *others = connections.values()
        await first.send('{"text": "to all"}')
        for other in others:
            assert json.loads(await other.recv())["data"] == {"text": "to all"}
        until(lambda: get(port, "/health")[1]["X-WebSocket-Total-Workers"] == "4")
        for connection in [*connections.values(), *spare]:
            await connection.close()


async def test_an_application_adds_it_by_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_APP)
    with uvicorn(tmp_path, "mine:app", WORKER_ID="worker-named") as port:
        status, headers, body = get(port, "/")
        assert (status, json.loads(body)) == (200, {"worker": "worker-named"})
        assert headers["X-WebSocket-Worker-ID"] == "worker-named"
        assert [name for name in HEADERS if name in headers] == ["X-WebSocket-Worker-ID"]
        assert get(port, "/health")[0] == 200


def test_an_application_that_has_it_gets_no_second_one_from_wsd(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_APP)
    with Cluster(tmp_path, "--workers", "1", "--app", "mine:app") as cluster:
        status, headers, body = get(cluster.port, "/")
        worker_id = cluster.worker(1).worker_id
        assert (status, json.loads(body)) == (200, {"worker": worker_id})
        assert [value for name, value in headers.items() if name.lower() == "x-websocket-worker-id"] == [worker_id]
        assert cluster.health()[1]["websocket"]["total_workers"] == 1


@pytest.mark.parametrize(
    ("name", "value"), [("WEBSOCKET_SESSION_TTL", "soon"), ("DISTRIBUTED_WEBSOCKET_ENABLED", "perhaps")]
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    command = [sys.executable, "-m", "uvicorn", "wsd.worker.app:app", "--port", str(unused_port())]
    result = subprocess.run(
        command, cwd=tmp_path, env=clean_env(**{name: value}), capture_output=True, text=True, timeout=30
    )
    assert result.returncode != 0
    assert f"{name} must be" in result.stderr
