"""Who the clients of an application are, and under which servers and with which of its parts `Cluster` works."""

import http.client
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.support.apps import copy_app
from tests.support.hub_client import close_of
from tests.support.ports import unused_port
from tests.support.server import get, serving, uvicorn
from tests.support.valkey import valkey

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
TOKENS = {"WSD_WORKER_JWT_SECRET": SECRET}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def told(stack: AsyncExitStack, port: int, path: str, **headers: str) -> Any:
    connection = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/{path}", additional_headers=headers))
    return json.loads(await connection.recv())


async def refused(stack: AsyncExitStack, port: int, path: str, **headers: str) -> tuple[int | None, str | None]:
    connection: ClientConnection = await stack.enter_async_context(
        connect(f"ws://127.0.0.1:{port}/{path}", additional_headers=headers)
    )
    return await close_of(connection)


async def test_the_application_says_who_its_clients_are(tmp_path: Path, stack: AsyncExitStack) -> None:
    copy_app("identified", tmp_path)
    with uvicorn(tmp_path, "identified:app") as port:
        assert await told(stack, port, "tell/number") == ["7", "7", "7", None]
        assert await told(stack, port, "tell/user") == ["given", "Given", "given", None]
        assert await told(stack, port, "tell/identity") == ["given", "Given", "given", "admin"]
        guest = await told(stack, port, "tell/nothing?user_id=admin&username=Admin")
        assert guest[0].startswith("guest-"), "nobody is who the query says"
        assert (await refused(stack, port, "tell/expired"))[0] == 4401
    assert "Traceback" not in (tmp_path / "server.log").read_text()


async def test_users_of_starlettes_middleware_are_known(tmp_path: Path, stack: AsyncExitStack) -> None:
    copy_app("identified", tmp_path)
    with uvicorn(tmp_path, "identified:app_with_users") as port:
        assert (await told(stack, port, "tell/nothing", **{"x-user": "bob"}))[:2] == ["bob", "bob"]
        assert (await told(stack, port, "tell/nothing"))[0].startswith("guest-")


@pytest.mark.parametrize("app", ["app", "app_with_middleware"])
async def test_the_settings_admit_clients_with_and_without_the_middleware(
    tmp_path: Path, stack: AsyncExitStack, app: str
) -> None:
    copy_app("identified", tmp_path)
    with uvicorn(tmp_path, f"identified:{app}", **TOKENS) as port:
        token = jwt.encode({"sub": "ann", "name": "Ann", "role": "admin", "exp": time.time() + 600}, SECRET, "HS256")
        bearer = {"Authorization": f"Bearer {token}"}
        assert await told(stack, port, "tell/nothing", **bearer) == ["ann", "Ann", "ann", "admin"]
        assert await told(stack, port, "tell/name", **bearer) == ["ann", "Renamed", "ann", "admin"]
        assert await told(stack, port, "tell/user", **bearer) == ["given", "Given", "given", None]
        assert (await refused(stack, port, "tell/nothing"))[0] == 1008
        assert (await refused(stack, port, "live/ws?user_id=x"))[0] == 1008
        with pytest.raises(InvalidStatus, match="403"):
            await told(stack, port, "tell/nothing", Origin="https://evil.example", **bearer)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


async def test_the_cluster_is_reached_from_threads_and_other_event_loops(tmp_path: Path, stack: AsyncExitStack) -> None:
    copy_app("identified", tmp_path)
    with uvicorn(tmp_path, "identified:app") as port:
        connection = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/tell/user"))
        await connection.recv()
        answers = json.loads(post(port, "/ways"))
        kinds = ["Published"] * 3 + ["Presence", "History", "ClusterStatistics", "WorkerHealth"]
        assert answers == {
            "sync here": "cluster.sync.publish would block the event loop that it waits for: "
            "use `await cluster.publish(...)`",
            "thread": True,
            "async_to_sync": True,
            "another loop": kinds,
            "sync": kinds,
        }
        got = [await connection.recv() for _ in range(8)]
        assert got == ["thread", "async_to_sync", *["elsewhere"] * 3, *["sync"] * 3]


def post(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path)
        return connection.getresponse().read()
    finally:
        connection.close()


async def test_gunicorns_workers_are_one_cluster(tmp_path: Path, stack: AsyncExitStack) -> None:
    copy_app("rooms", tmp_path, '@app.get("/health")\nasync def health() -> str:\n    return "ok"')
    port = unused_port()
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "2", "--worker-class", "uvicorn_worker.UvicornWorker"]
    command = [sys.executable, "-m", "gunicorn", "rooms:app", *options]
    with valkey(tmp_path / "redis", unused_port()) as url, serving(tmp_path, command, port, {"REDIS_URL": url}):
        rooms = [await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/rooms/g")) for _ in range(8)]
        for room in rooms:
            await room.recv()
        await rooms[0].send("hi")
        assert [await room.recv() for room in rooms] == ["hi"] * 8
        status, _, body = get(port, "/stats")
        assert (status, json.loads(body)["connections"]) == (200, 8)
    assert "Traceback" not in (tmp_path / "server.log").read_text()
