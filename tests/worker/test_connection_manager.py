"""The connection manager that applications start with, for all workers; and the example that shows it."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from tests.support.apps import copy_app, source_of
from tests.support.cluster import ROOT, Cluster, clean_env
from tests.support.hub_client import close_of
from tests.support.ports import unused_port
from tests.support.server import get, uvicorn
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.worker import Worker as Process
from tests.support.worker import worker
from wsd.worker.application.connection_manager import ConnectionManager
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.lifecycle import EXIT_STARTUP_FAILED
from wsd.worker.manager_name import AmbiguousNameError, check_names
from wsd.worker.process_workers import current_worker
from wsd.worker.worker import Worker

pytestmark = pytest.mark.anyio


async def receive(connection: ClientConnection) -> str:
    async with asyncio.timeout(10):
        return str(await connection.recv())


async def test_alone_and_without_a_middleware_it_works_in_memory(tmp_path: Path) -> None:
    with uvicorn(tmp_path, copy_app("managers", tmp_path)) as port:
        one, two = [await connect(f"ws://127.0.0.1:{port}/chat") for _ in range(2)]
        elsewhere = await connect(f"ws://127.0.0.1:{port}/quiet")
        await one.send("hi")
        assert await receive(one) == "you: hi"
        assert json.loads(await receive(one)) == json.loads(await receive(two)) == {"all": "hi"}
        await elsewhere.send("only here")
        assert await receive(elsewhere) == "only here", "two managers receive no messages of each other"
        await two.send("leave")
        await one.send("again")
        assert await receive(one) == "you: again"
        assert await receive(one) == '{"all": "again"}'
        await two.send("mine")  # it may still send: to leave is not to close
        assert await receive(one) == '{"all": "mine"}'
        for connection in (one, two, elsewhere):
            await connection.close()


async def test_a_connection_that_is_held_after_its_end_is_let_go_too(tmp_path: Path) -> None:
    with worker(tmp_path, app=copy_app("managers", tmp_path), protocol="wsd") as serving:
        async with connect("ws://localhost/hold", unix=True, path=str(serving.path)):
            await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 1)
        await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 0)


async def test_a_connection_may_be_forgotten_on_any_thread() -> None:
    one = Worker(WorkerEnv(worker_id="w", node_id="n"))
    await one.start()
    held = [await one.manager.connect("ann")]
    await asyncio.to_thread(held.clear)
    await eventually(lambda: one.manager.connection_count == 0)
    await one.stop()


async def test_a_connection_that_is_forgotten_is_closed_with_a_code_that_may_be_sent() -> None:
    one = Worker(WorkerEnv(worker_id="w", node_id="n"))
    await one.start()
    connection = await one.manager.connect("ann")
    outbox = connection.outbox
    del connection
    await eventually(lambda: outbox.closed == (1011, "the application has let go of it"))
    await one.stop()


async def test_values_that_cannot_be_stored_or_sent_are_refused_before_anything_changes() -> None:
    one = Worker(WorkerEnv(worker_id="w", node_id="n"))
    await one.start()
    manager = one.manager
    for arguments in (("\ud83d",), ("",), ("a\nb",), ("ann", "\u202e"), (42,)):
        with pytest.raises(ValueError, match=r"^user(_id|name) must"):
            await manager.connect(*arguments)
    unsayable: list[Any] = [{"a": "\ud83d"}, {"a": object()}, {("a", 1): 1}]
    for metadata in unsayable:
        with pytest.raises((TypeError, ValueError)):
            await manager.connect("ann", metadata=metadata)
    assert manager.connection_count == 0
    numbered: Any = {1: [{"b": None}]}
    ann = await manager.connect("ann", metadata=numbered)
    session = await one.backend.sessions.get(ann.session_id)
    assert session is not None
    assert session.metadata == {"1": [{"b": None}]}, "as JSON has it"
    for call in (
        lambda: manager.join(ann, "\ud83d"),
        lambda: manager.presence("\ud83d"),
        lambda: manager.history("\ud83d"),
        lambda: manager.publish("\ud83d", 1),
        lambda: manager.publish("room", "\ud83d"),
        lambda: manager.publish_text("room", "\ud83d"),
        lambda: manager.publish_text("\ud83d", "x"),
        lambda: manager.broadcast({"a": "\ud83d"}),
        lambda: manager.send_to_user("\ud83d", 1),
        lambda: manager.send_to_user("", 1),
        lambda: ConnectionManager("unsendable").broadcast("\ud83d"),
    ):
        with pytest.raises(ValueError):
            await call()
    for wrong in (object(), {"a": print}):
        with pytest.raises((TypeError, ValueError)):
            await manager.broadcast(wrong)
    with pytest.raises(UnicodeEncodeError):
        ann.send("\ud83d")
    assert (manager.connection_count, ann.channels) == (1, set())
    ann.close(4999, "done")
    manager.disconnect(ann, 1000, "\ud83d")  # a reason that only the traces hold
    assert manager.connection_count == 0
    await one.stop()


async def test_a_name_that_nobody_may_have_is_refused_whoever_connects(tmp_path: Path) -> None:
    with worker(tmp_path, app=copy_app("managers", tmp_path), protocol="wsd") as serving:
        for query in ("user_id=a%E2%80%AEb", "user_id=%E3%85%A4", "user_id=ann&username=%0A"):
            async with connect(f"ws://localhost/chat?{query}", unix=True, path=str(serving.path)) as connection:
                code, reason = await close_of(connection)
                assert code == 1008
                assert reason is not None
                assert " must " in reason
        assert "Traceback" not in serving.log.read_text()


@pytest.mark.parametrize("end", ["fail", "stop", "close"])
async def test_a_connection_that_the_application_forgot_is_let_go(tmp_path: Path, end: str) -> None:
    with uvicorn(tmp_path, copy_app("managers", tmp_path)) as port:

        def counts() -> object:
            return json.loads(get(port, "/health")[2])

        connections = [await connect(f"ws://127.0.0.1:{port}/chat") for _ in range(20)]
        await eventually(lambda: counts() == {"here": 20, "active": 20})
        for connection in connections:
            if end == "close":
                await connection.close()
            else:
                await connection.send(end)
        await eventually(lambda: counts() == {"here": 0, "active": 0})
        for connection in connections:
            await connection.close()


async def test_a_broadcast_reaches_the_clients_of_all_workers(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        uvicorn(tmp_path, copy_app("managers", tmp_path), "--workers", "3", REDIS_URL=url) as port,
    ):
        connections = [await connect(f"ws://127.0.0.1:{port}/chat") for _ in range(30)]
        await connections[0].send("hi")
        assert await receive(connections[0]) == "you: hi"
        for connection in connections:
            assert await receive(connection) == '{"all": "hi"}'
        for connection in connections:
            await connection.close()


FOUND = {
    "first": "named:first",
    "again": "named:first",
    "made": "named:made",
    "titled": "named:titled",
    "given": "lobby",
    "late": "named:late",
}
HELD = {
    "held['one']": "named",
    "Room.manager": "named:Room.manager",
    "room.own": "named:Room.__init__",
    "created": "named:created",
}


def test_names_hold_over_edits_and_however_the_module_is_run(tmp_path: Path) -> None:
    copy_app("library", tmp_path)
    (tmp_path / "other.py").write_text("from named import first as renamed\n")
    expressions = {**FOUND, **HELD}
    for lines in ("", "# a line\n" * 30):
        (tmp_path / "named.py").write_text(lines + source_of("named_managers"))
        shown = f"print([{', '.join(f'named.{name}.name' for name in expressions)}, other.renamed.name])"
        for reload in ("", "; import importlib; importlib.reload(named); importlib.reload(other)"):
            code = f"import sys; sys.path.insert(0, '.'); import named, other{reload}; {shown}"
            assert printed(tmp_path, "-c", code) == str([*expressions.values(), "named:first"])
    assert printed(tmp_path, "named.py") == printed(tmp_path, "-m", "named") == "named:first named:Room.manager"


def printed(directory: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=directory, env=clean_env(), capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


AMBIGUOUS = [
    "rooms = [ConnectionManager() for _ in range(2)]",
    "rooms = {'a': ConnectionManager()}\nrooms['b'] = ConnectionManager()",
    "def create():\n    one = ConnectionManager()\n    return one, ConnectionManager()\nrooms = create()",
]


@pytest.mark.parametrize("source", AMBIGUOUS)
def test_managers_that_nothing_tells_apart_are_named_at_the_start(tmp_path: Path, source: str) -> None:
    (tmp_path / "mine.py").write_text(
        f"from wsd import ConnectionManager\nfrom wsd.worker.endpoints.hub import app\n{source}\n"
    )
    running = Process(tmp_path, app="mine:app")
    assert running.process.wait(20) == EXIT_STARTUP_FAILED
    last = running.log.read_text().splitlines()[-1]
    assert "makes more than one ConnectionManager: assign each to a variable of its module, or name each" in last


async def test_a_function_may_make_several_managers_but_only_one_may_be_used() -> None:
    def create() -> ConnectionManager:
        return ConnectionManager()

    one, other = create(), create()
    check_names()
    await one.broadcast("hi")
    with pytest.raises(AmbiguousNameError, match="create makes more than one ConnectionManager"):
        await other.broadcast("hi")
    rooms = {name: ConnectionManager(name) for name in ("a", "b")}
    assert [room.name for room in rooms.values()] == ["a", "b"]
    for room in rooms.values():
        await room.broadcast("hi")
    await current_worker().stop()


@pytest.mark.parametrize("authentication", ["none", "settings", "starlette"])
async def test_the_application_decides_who_a_client_is_and_not_the_query(tmp_path: Path, authentication: str) -> None:
    app = copy_app("identities", tmp_path) + ("_with_authentication" if authentication == "starlette" else "")
    hook = "identities:authenticate" if authentication == "settings" else ""
    with worker(tmp_path, app=app, authenticate=hook) as serving:

        async def seen(kind: str, **headers: str) -> list[str]:
            url = f"ws://localhost/{kind}?user_id=forged&username=Forged"
            async with unix_connect(str(serving.path), url, additional_headers=headers) as client:
                ((user_id, username),) = json.loads(await receive(client))
            await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 0)
            return [user_id, username]

        assert await seen("user") == await seen("identity") == ["given", "Given"]
        assert await seen("number") == ["7", "7"]
        match authentication:
            case "none":
                user_id, username = await seen("nothing")
                assert user_id == username
                assert user_id.startswith("guest-")
            case "settings":
                assert await seen("nothing") == ["known", "Known"]
            case _:
                assert await seen("nothing", Authorization="ann") == ["ann", "ann"]
                user_id, username = await seen("nothing")
                assert user_id == username
                assert user_id.startswith("guest-")


def examples(directory: Path) -> None:
    for path in (ROOT / "examples").glob("*.py"):
        shutil.copy(path, directory)


def test_the_examples_differ_in_one_import() -> None:
    before, after = ((ROOT / "examples" / f"chat_{name}.py").read_text().splitlines() for name in ("before", "after"))
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) == 2  # the docstring, too
    assert changed[1] == (
        "from single_process import ConnectionManager",
        "from wsd import ConnectionManager",
    )


async def test_the_example_runs_on_four_workers(tmp_path: Path) -> None:
    examples(tmp_path)
    with Cluster(tmp_path, "--workers", "4", "--app", "chat_after:app") as cluster:
        url = f"ws://127.0.0.1:{cluster.port}/ws"
        connections = [await connect(f"{url}/{number}") for number in range(12)]
        await eventually(lambda: all(worker.connections for worker in cluster.status().workers), "a client on each")
        await connections[3].send("hello")
        assert await receive(connections[3]) == "You wrote: hello"
        for connection in connections:
            assert await receive(connection) == "Client #3 says: hello"
        await connections[0].close()
        for connection in connections[1:]:
            assert await receive(connection) == "Client #0 left the chat"
        for connection in connections[1:]:
            await connection.close()


async def test_the_example_before_the_change_runs_under_plain_uvicorn(tmp_path: Path) -> None:
    examples(tmp_path)
    (tmp_path / "served.py").write_text(
        "from chat_before import app\n\n@app.get('/health')\nasync def health():\n    return {}\n"
    )
    with uvicorn(tmp_path, "served:app") as port:
        one = await connect(f"ws://127.0.0.1:{port}/ws/1")
        await one.send("hello")
        assert [await receive(one), await receive(one)] == ["You wrote: hello", "Client #1 says: hello"]
        await one.close()
