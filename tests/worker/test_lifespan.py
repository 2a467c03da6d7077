"""Lifespan events: every application that uvicorn serves is served, and the worker's own work goes on."""

import asyncio
import signal
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.lifespan.on import LifespanOn
from websockets.asyncio.client import unix_connect

from tests.apps.lifespans import (
    KINDS,
    Kind,
    exits_in_startup,
    raises_after_startup,
    raises_at_once,
    raises_in_shutdown,
    returns_at_once,
)
from tests.support import server
from tests.support.apps import copy_app
from tests.support.cluster import ROOT
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker
from wsd.worker.server.lifespan import Lifespan

pytestmark = pytest.mark.anyio


async def as_uvicorn_sees(app: ASGIApp) -> dict[str, object]:
    """Start and stop an application with uvicorn's lifespan "auto". Return how each of the two ended."""
    lifespan = LifespanOn(uvicorn.Config(app, lifespan="auto"))
    seen: dict[str, object] = {}
    for phase in (lifespan.startup, lifespan.shutdown):
        try:
            async with asyncio.timeout(0.1):
                await phase()
        except TimeoutError:
            seen[phase.__name__] = "hangs"
            break
        seen[phase.__name__] = "exits" if lifespan.should_exit else "goes on"
        if lifespan.should_exit:
            break
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_coro().__qualname__ == "LifespanOn.main":  # type: ignore[union-attr]
            task.cancel()
            await asyncio.wait([task])
    return seen


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_sees_the_same_with_us_in_between(kind: Kind) -> None:
    happened: list[str] = []

    async def stopped() -> None:
        happened.append("stopped")

    async def alone(scope: Scope, receive: Receive, send: Send) -> None:
        assert isinstance(scope["state"], dict)
        await kind(receive, send)

    async def within(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            await send(message)
            happened.append(message["type"].removeprefix("lifespan."))

        lifespan = Lifespan(alone, on_started=lambda: happened.append("started"), on_stopped=stopped)
        await lifespan.run(scope, receive, noting)

    expected = await as_uvicorn_sees(alone)
    assert await as_uvicorn_sees(within) == expected
    if expected["startup"] == "goes on":
        assert happened[:2] == ["started", "startup.complete"]
        assert happened.count("stopped") == (expected["shutdown"] != "hangs")
        if "stopped" in happened:  # and nothing was stopped before the server wanted it
            assert happened[-2] == "stopped"
            assert happened[-1].startswith("shutdown.")
    elif expected["startup"] == "exits":
        assert happened == ["stopped", "startup.failed"]


async def test_an_application_that_exits_in_its_startup_did_not_start() -> None:
    async def stopped() -> None: ...

    async def asked() -> Message:
        return {"type": "lifespan.startup"}

    async def answered(message: Message) -> None: ...

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await exits_in_startup(receive, send)

    lifespan = Lifespan(app, on_started=lambda: None, on_stopped=stopped)
    with pytest.raises(SystemExit):
        await lifespan.run({}, asked, answered)
    assert lifespan.startup_failure == "SystemExit('no database')"


def serves(kind: Kind) -> dict[str, str]:
    """Return the environment in which `tests.apps.served_lifespans` treats lifespan events so."""
    return {"PYTHONPATH": str(ROOT), "LIFESPAN": kind.__name__}


async def test_a_worker_serves_any_lifespan_sends_heartbeats_and_exits_with_0(tmp_path: Path) -> None:
    running: list[Worker] = []
    try:
        for kind in (raises_at_once, returns_at_once, raises_after_startup, raises_in_shutdown):
            directory = tmp_path / kind.__name__
            directory.mkdir()
            environ = serves(kind)
            running.append(Worker(directory, environ, app="tests.apps.served_lifespans:app", heartbeat_interval=0.05))
        for serving in running:
            await eventually(lambda serving=serving: serving.health()[0] == 200)  # type: ignore[misc]
            beats = serving.health()[1]["heartbeat"]["beat"]
            await eventually(lambda serving=serving, beats=beats: serving.health()[1]["heartbeat"]["beat"] > beats + 2)  # type: ignore[misc]
            async with asyncio.timeout(10), unix_connect(str(serving.path), "ws://localhost/") as connection:
                assert await connection.recv() == "memory"
            assert await asyncio.to_thread(serving.request, "GET", "/") == (200, "True")
            serving.process.send_signal(signal.SIGTERM)
        for serving in running:
            assert await asyncio.to_thread(serving.process.wait, 10) == 0
    finally:
        for serving in running:
            serving.process.kill()
            serving.process.wait()


async def test_a_plain_server_has_the_worker_too(tmp_path: Path) -> None:
    with server.uvicorn(tmp_path, "tests.apps.served_lifespans:wrapped", **serves(raises_at_once)) as port:
        assert (await asyncio.to_thread(server.get, port, "/"))[2] == b"True"


async def test_a_worker_whose_background_work_has_stopped_says_so(tmp_path: Path) -> None:
    with worker(tmp_path, app=copy_app("stalling", tmp_path)) as serving:
        assert serving.health()[0] == 200
        serving.request("GET", "/")
        await eventually(lambda: serving.health()[0] == 503)
        assert serving.health()[1]["status"] == "stopped"
