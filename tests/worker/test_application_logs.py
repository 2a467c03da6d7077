"""Output and logging of an application, whose logging configuration must not silence the loggers of wsd."""

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

from tests.support.apps import APPS, copy_app
from tests.support.cluster import clean_env
from tests.support.waiting import eventually, until
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio

CONFIGURATIONS = {
    "import": ["root_without_level", "one_logger", "loggers_of_wsd", "basic_config", "disabled", "all_intercepted"],
    "startup": ["basic_config_without_level"],
}


def logging_by(configuration: str, at: str) -> dict[str, str]:
    """Return the environment in which `tests.apps.own_logging` configures logging so."""
    return {"LOGGING": configuration, "LOGGING_AT": at}


def expected_lines(configuration: str) -> list[str]:
    """Return what the application logs where nobody else has touched the logging module."""
    command = [sys.executable, "-c", "import own_logging as app; app.configure(); app.log_something()"]
    environ = clean_env(**logging_by(configuration, "a call"))
    done = subprocess.run(command, cwd=APPS, env=environ, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


@pytest.mark.parametrize("at", ["import", "startup"])
async def test_an_applications_logging_is_its_own_and_ours_stays(tmp_path: Path, at: str) -> None:
    running: list[tuple[str, Worker]] = []
    try:
        for number, configuration in enumerate(CONFIGURATIONS[at]):
            directory = tmp_path / str(number)  # a name would be too long for the path of a socket
            directory.mkdir()
            app, events = copy_app("own_logging", directory), str(directory / "events")
            serving = Worker(directory, logging_by(configuration, at), app=app, events_path=events, slot=1)
            running.append((configuration, serving))
        for configuration, serving in running:
            await check(serving, expected_lines(configuration), configuration)
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
    app = copy_app("own_logging", tmp_path)
    with worker(tmp_path, logging_by("nothing", "import"), app=app, log_format="json") as serving:
        async with unix_connect(str(serving.path), "ws://localhost/ws") as client:
            await client.recv()
        lines = [json.loads(line) for line in serving.log.read_text().splitlines()]
        said = [(line["logger"], line["level"]) for line in lines if line["message"].startswith("said")]
        assert said == [(name, level) for name in ("root", "mine", "mine.part") for level in ("info", "warning")]


async def test_printed_lines_are_in_the_log_at_once(tmp_path: Path) -> None:
    assert "PYTHONUNBUFFERED" not in os.environ
    with worker(tmp_path, app=copy_app("printing", tmp_path)) as serving:
        assert "printed at import" in serving.log.read_text()
        await asyncio.to_thread(serving.request, "GET", "/")
        assert "printed in a request" in serving.log.read_text()
        until(lambda: serving.log.read_text().count("printed by a helper") == 2)
