"""Alerts that do not arrive are sent again, and dropped in the end."""

import asyncio
import socket
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import gone
from tests.support.waiting import eventually
from wsd.supervisor.alerts import sender
from wsd.supervisor.alerts.ledger import Alert
from wsd.supervisor.config.settings import AlertsConfig

pytestmark = pytest.mark.anyio

ALERT = Alert(event="began", problem="redis", text="Redis does not answer")


@pytest.mark.parametrize(("pauses", "attempts"), [((0.0, 0.0), 3), ((60.0,), 1)])
async def test_an_alert_is_tried_again_and_the_end_does_not_wait_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: tuple[float, ...], attempts: int
) -> None:
    script = tmp_path / "fail.sh"
    script.write_text('#!/bin/sh\necho tried >> "$0.log"\nexit 3\n')
    script.chmod(0o700)
    monkeypatch.setattr(sender, "PAUSES_SECONDS", pauses)
    monkeypatch.setattr(sender, "CLOSE_SECONDS", 1.0)
    alerts = sender.Sender(lambda: AlertsConfig(command=str(script)), set())
    task = asyncio.create_task(alerts.run())
    alerts.send(ALERT)
    await alerts.flush()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (tmp_path / "fail.sh.log").read_text() == "tried\n" * attempts


async def test_the_end_waits_for_neither_a_command_nor_a_server_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "CLOSE_SECONDS", 0.5)
    children: set[int] = set()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        settings = AlertsConfig(command="sh -c 'sleep 600 & wait'", url=url, timeout=600.0)
        alerts = sender.Sender(lambda: settings, children)
        task = asyncio.create_task(alerts.run())
        alerts.send(ALERT)
        await eventually(lambda: children and psutil.Process(*children).children())
        command = psutil.Process(*children)
        pids = [command.pid, command.children()[0].pid]
        async with asyncio.timeout(30):
            await alerts.flush()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert "the supervisor ends before all alerts have arrived" in caplog.text
    await eventually(lambda: gone(pids))


async def test_alerts_beyond_the_limit_are_dropped_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "MAX_WAITING", 1)
    alerts = sender.Sender(lambda: AlertsConfig(url="http://127.0.0.1:1/"), set())
    alerts.send(ALERT)
    alerts.send(ALERT)
    assert "1 alerts wait, dropped: Redis does not answer" in caplog.text
