"""`wsd start --app`: applications that are served, and objects that are not applications."""

import asyncio
import http.client
import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.apps import copy_app, source_of
from tests.support.cluster import Cluster, wsd
from tests.support.ports import unused_port
from tests.support.waiting import long_run, until

FAILING = source_of("failing_startup")


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.anyio
async def test_an_application_is_served_with_the_manager_and_the_clients_address(tmp_path: Path) -> None:
    app = copy_app("request_facts", tmp_path)
    with Cluster(tmp_path, "--workers", "2", "--app", app) as cluster:
        forged = {"X-Forwarded-For": "10.9.8.7", "X-Real-IP": "10.9.8.7", "X-Forwarded-Proto": "https"}
        status, body = get(cluster.port, "/facts", **forged)
        facts = json.loads(body)
        assert status == 200
        assert (facts["client"], facts["scheme"]) == ("127.0.0.1", "http")
        assert facts["host"] == f"127.0.0.1:{cluster.port}"
        assert facts["worker"] in [worker.worker_id for worker in cluster.status().workers]
        async with connect(f"ws://127.0.0.1:{cluster.port}/echo", additional_headers=forged) as connection:
            await connection.send("hello")
            assert json.loads(await connection.recv()) == {"client": "127.0.0.1", "said": "hello"}
        assert get(cluster.port, "/health")[0] == 200
        assert get(cluster.port, "/")[0] == 404  # the hub is not in the way of an application
        assert "as request_facts:app serves it" in cluster.output


def test_an_application_without_lifespan_that_a_factory_makes_is_served(tmp_path: Path) -> None:
    copy_app("bare", tmp_path)
    with Cluster(tmp_path, "bare:create_app", "--workers", "1") as cluster:
        assert get(cluster.port, "/anything") == (200, b"bare")


def test_files_of_the_application_are_not_taken_for_modules_of_ours(tmp_path: Path) -> None:
    for name in ("wsd", "supervisor", "redis", "jwt", "msgspec", "uvicorn", "queue", "email"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} imported in the place of another one')")
    (tmp_path / "worker.py").write_text("NAME = 'own'")
    (tmp_path / "wsd.toml").write_text(f'[security]\njwt_secret = "{"s" * 32}"\n')
    copy_app("bare", tmp_path, "import worker\nassert worker.NAME == 'own'")
    try:
        started = wsd("start", "--detach", "bare:app", "--workers", "1", "--port", str(unused_port()), cwd=tmp_path)
        assert started.returncode == 0, started.stdout + started.stderr
        upgraded = wsd("upgrade", cwd=tmp_path)  # workers and supervisor anew
        assert upgraded.returncode == 0, upgraded.stdout + upgraded.stderr
    finally:
        stopped = wsd("stop", cwd=tmp_path)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.mark.anyio
async def test_a_django_project_with_channels_publishes_and_receives_on_all_workers(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", "--app", copy_app("django_project", tmp_path)) as cluster:
        workers = dict.fromkeys(worker.worker_id for worker in cluster.status().workers)
        clients: dict[str | None, ClientConnection] = {}
        async with AsyncExitStack() as stack:
            while clients.keys() != workers.keys():
                client = await stack.enter_async_context(connect(f"ws://127.0.0.1:{cluster.port}/news"))
                clients[str(await client.recv())] = client
            for path in ("/publish?text=sync", "/publish-async?text=async"):
                assert (await asyncio.to_thread(get, cluster.port, path))[0] == 200
                for client in clients.values():
                    async with asyncio.timeout(10):
                        assert json.loads(await client.recv())["data"] == path.partition("=")[2]
            assert cluster.status().problems == []
        cluster.wsd("restart", "1")
        assert cluster.status().state == "healthy"


def test_a_worker_whose_background_work_has_stopped_is_replaced(tmp_path: Path) -> None:
    app = copy_app("stalling", tmp_path)
    health = "[health]\nheartbeat_interval = 0.2\nheartbeat_timeout = 1.0\nprobe_timeout = 0.5\n"
    with Cluster(tmp_path, "--workers", "1", "--app", app, config=health) as cluster:
        pid = cluster.worker(1).pid
        assert get(cluster.port, "/") == (200, b"False")
        assert get(cluster.port, "/health")[0] == 503
        until(lambda: "worker-1 has sent no heartbeat for" in str(cluster.status().problems))
        assert cluster.status().state == "degraded"
        assert until(lambda: cluster.replaced(1, pid))
        assert "answers, but its background work has stopped" in cluster.wsd("events").stdout
        assert get(cluster.port, "/health")[0] == 200


rare = partial(pytest.param, marks=long_run)


@pytest.mark.parametrize(
    ("app", "source", "reason", "traceback_of"),
    [
        ("absent:app", None, 'app "absent:app" cannot be imported from', None),
        rare("mine:nothing", "app = 1", 'mine has no attribute "nothing"', None),
        rare("mine:app", "app = 1", 'app "mine:app" is not an ASGI application: it is a int', None),
        ("mine:app", "def app(request): ...", "it must take (scope, receive, send), not (request)", None),
        ("mine:app", "1 / 0", "raised while it was imported: ZeroDivisionError", "ZeroDivisionError: division by zero"),
        rare("mine:app", "import not_there", "No module named 'not_there'", "ModuleNotFoundError"),
        rare("mine:app", "def app(:", "SyntaxError: invalid syntax (mine.py, line 1)", "SyntaxError"),
        rare("mine:app", "raise SystemExit(0)", "SystemExit: 0", "SystemExit"),
        ("mine:app", FAILING, "the application failed to start: RuntimeError: no database", "RuntimeError"),
    ],
)
def test_an_application_that_cannot_start_fails_the_start_with_its_reason(
    tmp_path: Path, app: str, source: str | None, reason: str, traceback_of: str | None
) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    port = str(unused_port())
    result = wsd("start", "--workers", "2", "--port", port, "--app", app, cwd=tmp_path)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("wsd: worker-")
    assert reason in last
    shown = (result.stdout + result.stderr).count("Traceback (most recent call last)")
    if traceback_of is None:
        assert shown == 0
    else:
        assert shown == 1 if traceback_of != "SyntaxError" else shown <= 1
        assert traceback_of in result.stdout
    assert not (tmp_path / ".wsd" / "lock").exists()


def test_an_application_that_is_named_twice_is_a_usage_error(tmp_path: Path) -> None:
    result = wsd("start", "a:b", "--app", "c:d", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == 'wsd: two applications are given, "a:b" and --app "c:d": use one of them\n'
    assert wsd("start", "a:b", "--app", "a:b", "--check", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("app", ["mine", "mine:", ":app", "mine app"])
def test_an_app_of_the_wrong_form_is_a_usage_error(tmp_path: Path, app: str) -> None:
    result = wsd("start", "--app", app, cwd=tmp_path)
    assert result.returncode == 2
    assert f'--app: cluster.app must have the form module:attribute, such as chat:app, got "{app}"' in result.stderr
