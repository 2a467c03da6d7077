"""Without a supervisor: the hub and one's own application under plain uvicorn, in memory and over Redis."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.support.apps import copy_app
from tests.support.cluster import Cluster, clean_env
from tests.support.ports import unused_port
from tests.support.server import get, join, join_each_of, serving, uvicorn
from tests.support.valkey import valkey
from tests.support.waiting import until
from wsd.worker.websocket_middleware import HEADERS

pytestmark = pytest.mark.anyio


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
        uvicorn(tmp_path, "wsd.worker.app:app", "--workers", "4", REDIS_URL=url, WORKER_ID="unit") as port,
    ):
        connections, spare = await join_each_of(port, 4)
        assert all(worker_id.startswith("unit-") for worker_id in connections)
        first, *others = connections.values()
        await first.send('{"text": "to all"}')
        for other in others:
            assert json.loads(await other.recv())["data"] == {"text": "to all"}
        until(lambda: get(port, "/health")[1]["X-WebSocket-Total-Workers"] == "4")
        for connection in [*connections.values(), *spare]:
            await connection.close()


async def test_an_application_adds_it_by_itself(tmp_path: Path) -> None:
    with uvicorn(tmp_path, copy_app("own_middleware", tmp_path), WORKER_ID="worker-named") as port:
        status, headers, body = get(port, "/")
        assert (status, json.loads(body)) == (200, {"worker": "worker-named"})
        assert headers["X-WebSocket-Worker-ID"] == "worker-named"
        assert [name for name in HEADERS if name in headers] == ["X-WebSocket-Worker-ID"]
        assert get(port, "/health")[0] == 200


def test_an_application_that_has_it_gets_no_second_one_from_wsd(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", "--app", copy_app("own_middleware", tmp_path)) as cluster:
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


async def test_an_applications_own_authentication_holds_under_any_server(tmp_path: Path) -> None:
    app = copy_app("own_authentication", tmp_path)

    async def check(port: int) -> None:
        known = await connect(f"ws://127.0.0.1:{port}/user?secret")
        assert await known.recv() == "ann"
        unknown = await connect(f"ws://127.0.0.1:{port}/user?wrong")
        await unknown.wait_closed()
        assert (unknown.close_code, unknown.close_reason) == (1008, "not authenticated")

    with uvicorn(tmp_path, app) as port:
        await check(port)
    with Cluster(tmp_path, "--workers", "1", "--app", app) as cluster:
        await check(cluster.port)


async def test_a_server_without_lifespan_events_starts_it_with_the_first_request(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "wsd.worker.app:app", "--lifespan", "off") as port:
        one, _ = await join(port)
        await one.send('{"text": "hi"}')
        assert json.loads(await one.recv())["data"] == {"text": "hi"}
        await one.close()


async def test_gunicorn_with_its_configuration(tmp_path: Path) -> None:
    port = unused_port()
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "gunicorn", "-c", str(root / "deploy/gunicorn.conf.py"), "wsd.worker.app:app"]
    with valkey(tmp_path / "redis", unused_port()) as url:
        env = {"REDIS_URL": url, "BIND": f"127.0.0.1:{port}", "WORKERS": "2", "WORKER_ID": "unit"}
        with serving(tmp_path, command, port, env):
            connections, spare = await join_each_of(port, 2)
            assert all(worker_id.startswith("unit-") for worker_id in connections)
            one, two = connections.values()
            await one.send('{"text": "hi"}')
            assert json.loads(await two.recv())["data"] == {"text": "hi"}
            for connection in [*connections.values(), *spare]:
                await connection.close()
