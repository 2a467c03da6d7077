"""wsd.testing, as the tests of an application use it."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.types import Receive, Scope, Send
from websockets.sync.client import connect

from tests.support.pages import ROOT, files
from wsd import ConnectionManager
from wsd.client import RequestError, SyncWsdClient
from wsd.testing import AsyncTestCluster, StartupFailedError, TestCluster
from wsd.worker.process_workers import live_workers

SECRET = "a secret of at least thirty-two bytes"


def run_pytest(directory: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def data_of(client: SyncWsdClient, count: int) -> list[Any]:
    return [client.receive(timeout=10)["data"] for _ in range(count)]


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def test_clients_of_the_hub_are_on_two_workers_and_in_one_cluster(wsd_cluster: TestCluster) -> None:
    with wsd_cluster.client("ann") as ann, wsd_cluster.client("bob") as bob:
        ann.subscribe("room")
        bob.subscribe("room")
        assert sorted(member.user_id for member in ann.presence("room").members) == ["ann", "bob"]
        assert ann.welcome["worker_id"] != bob.welcome["worker_id"]
        bob.publish("room", "to everybody")
        bob.direct("ann", "to ann")
        ann.broadcast("to all")
        assert sorted(data_of(ann, 3)) == ["to all", "to ann", "to everybody"]
        assert sorted(data_of(bob, 2)) == ["to all", "to everybody"]
        assert [json.loads(json.dumps(m))["data"] for m in bob.history("room").messages] == ["to everybody"]


def test_a_client_whose_worker_is_replaced_goes_on_where_it_was(wsd_cluster: TestCluster) -> None:
    with wsd_cluster.client("ann", worker=0) as ann, wsd_cluster.client("bob", worker=1) as bob:
        ann.subscribe("room")
        session = ann.welcome["session_id"]
        for number in range(3):
            bob.publish("room", number)
            if number == 0:
                wsd_cluster.restart(0)
        assert data_of(ann, 3) == [0, 1, 2]
        assert ann.welcome["session_id"] == session
        assert ann.welcome["resumed"] is True


def test_a_client_that_comes_back_on_another_worker_takes_its_session_along(wsd_cluster: TestCluster) -> None:
    with connect(wsd_cluster.url("/ws?user_id=ann", worker=0).replace("http", "ws")) as first:
        token = json.loads(first.recv())["resume_token"]
        with connect(wsd_cluster.url(f"/ws?user_id=ann&session={token}", worker=1).replace("http", "ws")) as second:
            second.send('{"type": "resume"}')
            assert json.loads(second.recv())["resumed"] is True
            with pytest.raises(Exception, match="4500"):
                while True:
                    first.recv(timeout=10)


def test_statistics_count_all_workers(wsd_cluster: TestCluster) -> None:
    with wsd_cluster.client("ann") as ann, wsd_cluster.client("bob") as bob:
        ann.subscribe("room")
        bob.subscribe("room")
        stats = get(wsd_cluster.url("/api/websocket/stats"))
    assert (stats["complete"], stats["connections"], len(stats["workers"])) == (True, 2, 2)


def chat() -> FastAPI:
    """Return a chat with the ConnectionManager, whose lifespan counts how often it ran."""
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        started.append("once")
        yield {"started": started}
        started.clear()

    app = FastAPI(lifespan=lifespan)
    app.state.started = started
    manager = ConnectionManager("chat")

    @app.websocket("/chat")
    async def serve(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await manager.broadcast(await websocket.receive_text())
        except WebSocketDisconnect:
            manager.disconnect(websocket)

    @app.get("/started")
    async def answer(request: Request) -> list[str]:
        return list(request.state.started)

    return app


def test_a_broadcast_of_an_application_reaches_the_clients_of_both_workers_once() -> None:
    with TestCluster(chat()) as cluster:
        urls = [cluster.url("/chat", worker=number).replace("http", "ws") for number in (0, 1)]
        with connect(urls[0]) as ann, connect(urls[1]) as bob:
            ann.send("hello")
            bob.send("hi")
            assert sorted([ann.recv(timeout=10), ann.recv(timeout=10)]) == ["hello", "hi"]
            assert sorted([bob.recv(timeout=10), bob.recv(timeout=10)]) == ["hello", "hi"]


def test_the_lifespan_runs_once_and_both_workers_have_its_state() -> None:
    app = chat()
    with TestCluster(app) as cluster:
        assert [get(cluster.url("/started", worker=number)) for number in (0, 1)] == [["once"], ["once"]]
    assert app.state.started == []


def connect_to_the_database() -> None:
    raise RuntimeError("no database")


def test_an_application_that_fails_to_start_fails_the_test() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connect_to_the_database()
        yield

    with (
        pytest.raises(StartupFailedError, match="no database"),
        TestCluster(FastAPI(lifespan=lifespan)),
    ):
        pass
    assert live_workers() == []


async def answers_ok(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'"ok"'})


def test_an_application_may_know_no_lifespan_and_be_given_by_its_name() -> None:
    with TestCluster("tests.testing.test_test_cluster:answers_ok", workers=1) as cluster:
        assert get(cluster.url("/")) == "ok"


def test_settings_have_the_names_of_the_configuration_file() -> None:
    settings = {"security.jwt_secret": SECRET, "channels": {"*": {"history_size": 0}}, "websocket.ping_interval": 5}
    with TestCluster(settings=settings) as cluster:
        token = jwt.encode({"sub": "ann", "exp": 4_000_000_000}, SECRET)
        with cluster.client(token=token) as ann, cluster.client("bob") as bob:
            assert ann.subscribe("room").position is None
            assert ann.welcome["user_id"] == "ann"
            with pytest.raises(RequestError):
                bob.subscribe("room")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"security.jwt_secrets": "x"}, 'no setting "security.jwt_secrets"'),
        ({"security": {}}, r'"security" is a section of settings: .*, such as "security\.\w+"'),
        ({"websocket.compression": "yes"}, "websocket.compression must be of the type bool, got 'yes'"),
        ({"channels": {"*": {"history": 3}}}, "history"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], problem: str) -> None:
    before = [*live_workers()]
    with pytest.raises(ValueError, match=problem), TestCluster(settings=settings):
        pass
    assert live_workers() == before


def test_any_number_of_clusters_leave_nothing_behind() -> None:
    before, threads = [*live_workers()], threading.active_count()
    for _ in range(5):
        with TestCluster(workers=3) as cluster, cluster.client("ann") as ann:
            ann.subscribe("room")
    assert (live_workers(), threading.active_count()) == (before, threads)


def test_the_cluster_of_an_asyncio_test_is_on_its_event_loop() -> None:
    async def test() -> None:
        async with AsyncTestCluster() as cluster:
            async with cluster.client("ann") as ann, cluster.client("bob") as bob:
                await ann.subscribe("room")
                await bob.publish("room", "hello")
                async for message in ann:
                    assert message["data"] == "hello"
                    break
                await cluster.restart(0)
                await bob.publish("room", "again")
                async for message in ann:
                    assert message["data"] == "again"
                    break

    asyncio.run(asyncio.wait_for(test(), 20))


def test_the_documented_tests_pass_as_they_stand(tmp_path: Path) -> None:
    for name, text in files(ROOT / "docs" / "testing.md").items():
        (tmp_path / name).write_text(text)
    run_pytest(tmp_path)
