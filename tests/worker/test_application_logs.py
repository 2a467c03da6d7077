"""What an application prints and logs, and that its logging configuration takes nothing of ours away."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import unix_connect

from tests.support.cluster import clean_env
from tests.support.waiting import eventually, until
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio

APP = """
import contextlib, logging, logging.config, sys
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

class Intercept(logging.Handler):
    def emit(self, record):
        print("intercepted", record.name, record.levelname, record.getMessage(), file=sys.stderr)

def configure():
    {configuration}

def speak():
    for name in ("", "mine", "mine.part"):
        logger = logging.getLogger(name)
        logger.info("said at info")
        logger.warning("said at warning")

if not {late}:
    configure()

async def ws(websocket):
    await websocket.accept()
    speak()
    await websocket.send_text("spoken")
    async for text in websocket.iter_text():
        pass

@contextlib.asynccontextmanager
async def lifespan(app):
    if {late}:
        configure()
    yield

app = Starlette(routes=[WebSocketRoute("/ws", ws)], lifespan=lifespan)
"""

DISABLED = """
    for name in list(logging.root.manager.loggerDict):
        found = logging.getLogger(name)
        found.handlers, found.propagate, found.disabled = [], False, True
"""


def dict_config(more: str) -> str:
    """With a handler, `h`, that has a format of the application's own."""
    return f"""logging.config.dictConfig({{
        "version": 1,
        "formatters": {{"f": {{"format": "own %(name)s %(message)s"}}}},
        "handlers": {{"h": {{"class": "logging.StreamHandler", "formatter": "f"}}}},
        {more}
    }})"""


CONFIGURATIONS = {
    "root-without-level": dict_config('"root": {"handlers": ["h"]}, "disable_existing_loggers": False'),
    "one-logger": dict_config('"loggers": {"mine": {"handlers": ["h"], "level": "INFO"}}'),
    "takes-ours": dict_config(
        '"root": {"handlers": ["h"], "level": "INFO"},'
        '"loggers": {"wsd": {"handlers": [], "level": "CRITICAL"}, "wsd.worker": {"propagate": False}}'
    ),
    "basic-config": 'logging.basicConfig(format="basic %(message)s", level=logging.DEBUG, force=True)',
    "disabled": "logging.disable(logging.CRITICAL)",
    "all-taken": f"logging.root.handlers = [Intercept()]{DISABLED}",
}
IN_STARTUP = {"basic-config-without-level": 'logging.basicConfig(format="basic %(message)s")'}


def expected_lines(directory: Path) -> list[str]:
    """What the application logs where nobody else has touched the logging module."""
    command = [sys.executable, "-c", "import mine; mine.configure(); mine.speak()"]
    done = subprocess.run(command, cwd=directory, env=clean_env(), capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


@pytest.mark.parametrize("late", [False, True], ids=["at-import", "in-startup"])
async def test_an_applications_logging_is_its_own_and_ours_stays(tmp_path: Path, late: bool) -> None:
    running: list[tuple[str, Worker]] = []
    try:
        for number, (name, configuration) in enumerate((IN_STARTUP if late else CONFIGURATIONS).items()):
            directory = tmp_path / str(number)  # a name would be too long for the path of a socket
            directory.mkdir()
            (directory / "mine.py").write_text(APP.format(configuration=configuration, late=late))
            running.append((name, Worker(directory, app="mine:app", events_path=str(directory / "events"), slot=1)))
        for name, serving in running:
            await check(serving, expected_lines(serving.log.parent), name)
    finally:
        for _, serving in running:
            serving.process.kill()
            serving.process.wait()


async def check(serving: Worker, expected: list[str], name: str) -> None:
    await eventually(lambda: serving.health()[0] == 200)
    before = len(serving.log.read_text().splitlines())
    async with unix_connect(str(serving.path), "ws://localhost/ws") as client:
        await client.recv()
        lines = serving.log.read_text().splitlines()[before:]
        # What no handler of the application takes is Python's last resort's elsewhere, and in our format here.
        homeless = [line for line in expected if line == "said at warning"]
        in_our_format = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d ", line)]
        assert [line for line in lines if line not in in_our_format] == [e for e in expected if e not in homeless], name
        assert [line for line in in_our_format if " WARNING " in line][len(homeless) :] == [], name
        assert bool(in_our_format) == bool(homeless), name
        serving.process.send_signal(signal.SIGTERM)
        await client.wait_closed()
    assert await asyncio.to_thread(serving.process.wait, 10) == 0
    ours = "draining 1 connections"
    assert f"INFO wsd.worker.server.draining_server: {ours}" in serving.log.read_text(), name
    events = (serving.log.parent / "events").read_text().splitlines()
    assert [json.loads(event)["text"] for event in events] == [ours], name


async def test_an_application_that_configures_nothing_logs_as_the_worker_does(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(APP.format(configuration="pass", late=False))
    with worker(tmp_path, app="mine:app", log_format="json") as serving:
        async with unix_connect(str(serving.path), "ws://localhost/ws") as client:
            await client.recv()
        lines = [json.loads(line) for line in serving.log.read_text().splitlines()]
        said = [(line["logger"], line["level"]) for line in lines if line["message"].startswith("said")]
        assert said == [(name, level) for name in ("root", "mine", "mine.part") for level in ("info", "warning")]


PRINTING = """
import multiprocessing, os, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

print("printed at import")

def helper():
    print("printed by a helper")
    time.sleep(60)

def say(request):
    print("printed in a request")
    for method in ("fork", "spawn"):
        multiprocessing.get_context(method).Process(target=helper, daemon=True).start()
    return PlainTextResponse(str(os.getpid()))

app = Starlette(routes=[Route("/", say)])
"""


async def test_what_is_printed_is_in_the_log_at_once(tmp_path: Path) -> None:
    assert "PYTHONUNBUFFERED" not in os.environ
    (tmp_path / "mine.py").write_text(PRINTING)
    with worker(tmp_path, app="mine:app") as serving:
        assert "printed at import" in serving.log.read_text()
        await asyncio.to_thread(serving.request, "GET", "/")
        assert "printed in a request" in serving.log.read_text()
        until(lambda: serving.log.read_text().count("printed by a helper") == 2)
