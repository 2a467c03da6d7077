"""`wsd init` writes files that work, and a supervisor under systemd says how it goes."""

import os
import shutil
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.cluster.harness import Cluster, clean_env, wsd
from wsd.supervisor.systemd import Systemd

pytestmark = pytest.mark.anyio


async def test_what_init_writes_is_a_cluster(tmp_path: Path) -> None:
    result = wsd("init", "--example", cwd=tmp_path)
    assert result.stdout.split() == ["wrote", str(tmp_path / "wsd.toml"), "wrote", str(tmp_path / "chat.py")]
    text = (tmp_path / "wsd.toml").read_text()
    assert "# port = 8000" in text
    assert all(not values or name == "channels" for name, values in tomllib.loads(text).items())
    with Cluster(tmp_path, "--workers", "2", "--app", "chat:app") as cluster:
        url = f"ws://127.0.0.1:{cluster.port}/chat"
        async with connect(url) as one, connect(url) as two:
            await one.send("hello")
            assert (await one.recv(), await two.recv()) == ("hello", "hello")


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text("mine")
    result = wsd("init", "--example", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "chat.py is there already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chat.py"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    assert wsd("init", "--systemd", cwd=tmp_path).returncode == 0
    unit = tmp_path / "wsd.service"
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in result.stderr.splitlines() if "wsd.service" in line]
    assert (result.returncode, about_it) == (0, [])


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """Where systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def heard(notified: socket.socket, state: str) -> list[str]:
    """The datagram with this state; the test fails when none comes."""
    while True:
        lines = notified.recv(4096).decode().splitlines()
        if state in lines:
            return lines


def test_systemd_hears_that_it_is_ready_lives_reloads_and_stops(tmp_path: Path, notified: socket.socket) -> None:
    env = clean_env(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
    with Cluster(tmp_path, "--workers", "1", env=env) as cluster:
        assert cluster.process is not None
        assert f"MAINPID={cluster.process.pid}" in heard(notified, "READY=1")
        lines = heard(notified, "WATCHDOG=1")
        assert "STATUS=healthy, 1 of 1 workers, 0 connections" in lines
        cluster.signal(signal.SIGHUP)
        assert any(line.startswith("MONOTONIC_USEC=") for line in heard(notified, "RELOADING=1"))
        heard(notified, "READY=1")
        cluster.signal(signal.SIGTERM)
        heard(notified, "STOPPING=1")
        assert cluster.wait() == 0


def test_a_watchdog_of_another_process_is_none_of_ours() -> None:

    assert Systemd({"WATCHDOG_USEC": "3000000"}).watchdog_seconds == 3.0
    assert Systemd({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_seconds == 3.0
    assert Systemd({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0.0
    assert Systemd({"WATCHDOG_USEC": "often"}).watchdog_seconds == 0.0
    Systemd({}).notify("READY=1")  # to nobody
