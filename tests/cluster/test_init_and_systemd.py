"""`wsd init` writes files that work, and a supervisor under systemd says how it goes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.support.apps import APPS
from tests.support.cluster import Cluster, clean_env, wsd
from tests.support.ports import unused_port
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.machine.systemd import Systemd, public_socket

pytestmark = pytest.mark.anyio


async def test_a_cluster_starts_from_the_files_of_init(tmp_path: Path) -> None:
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
    assert "chat.py already exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["chat.py"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_a_user_without_an_entry_in_passwd_is_named_by_its_number(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    # The capability lets the user read this interpreter, wherever it is installed.
    as_nobody = (
        "setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps +dac_override --ambient-caps +dac_override"
    )
    command = [*as_nobody.split(), sys.executable, "-m", "wsd.supervisor", "init", "--systemd"]
    environ = {name: value for name, value in clean_env().items() if name not in ("LOGNAME", "USER", "USERNAME")}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "User=54321" in (tmp_path / "wsd.service").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_units_are_ones_that_systemd_takes(tmp_path: Path) -> None:
    assert wsd("init", "--systemd", cwd=tmp_path).returncode == 0
    units = [tmp_path / "wsd.service", tmp_path / "wsd.socket"]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
    )
    about_it = [line for line in result.stderr.splitlines() if "wsd." in line]
    assert (result.returncode, about_it) == (0, [])


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd would receive notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def heard(notified: socket.socket, state: str) -> list[str]:
    """Receive until a datagram has this state, and return it. The test fails when none comes."""
    while True:
        lines = notified.recv(4096).decode().splitlines()
        if state in lines:
            return lines


def test_systemd_is_notified_of_ready_watchdog_reload_and_stop(tmp_path: Path, notified: socket.socket) -> None:
    env = clean_env(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
    with Cluster(tmp_path, "--workers", "1", env=env) as cluster:
        assert cluster.process is not None
        assert f"MAINPID={cluster.process.pid}" in heard(notified, "READY=1")
        lines = heard(notified, "WATCHDOG=1")
        assert "STATUS=healthy, 1 of 1 worker, 0 connections" in lines
        cluster.signal(signal.SIGHUP)
        assert any(line.startswith("MONOTONIC_USEC=") for line in heard(notified, "RELOADING=1"))
        heard(notified, "READY=1")
        cluster.signal(signal.SIGTERM)
        heard(notified, "STOPPING=1")
        assert cluster.wait() == 0


@pytest.fixture
def public(tmp_path: Path) -> Iterator[socket.socket]:
    """The public port, as systemd holds it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", unused_port()))
        listener.listen(100)
        listener.settimeout(30)
        yield listener


class Activated(Cluster):
    """A cluster that systemd started, which holds the public port (socket activation)."""

    def __init__(self, directory: Path, public: socket.socket, *arguments: str, port: int | None = None) -> None:
        super().__init__(directory, *arguments, port=port or public.getsockname()[1])
        self.pass_fds = (public.fileno(),)
        self.command = [sys.executable, str(APPS / "activate.py"), str(public.fileno()), *self.command]


def test_a_port_that_systemd_holds_refuses_nobody_while_the_cluster_is_away(
    tmp_path: Path, public: socket.socket
) -> None:
    with ThreadPoolExecutor(1) as beside, Activated(tmp_path, public, "--workers", "1") as cluster:
        assert cluster.get("/health")[0] == 200
        master = cluster.status().nginx
        assert master is not None
        assert master.pid is not None
        os.kill(master.pid, signal.SIGKILL)
        assert cluster.get("/health")[0] == 200  # it waited for the next nginx
        assert cluster.wsd("upgrade").returncode == 0
        assert cluster.wsd("stop").returncode == 0
        assert cluster.wait() == 0
        waiting = beside.submit(cluster.get, "/health")
        cluster.launch()
        assert waiting.result(30)[0] == 200
        cluster.wait_until_healthy()


def test_a_socket_for_another_address_is_refused(tmp_path: Path, public: socket.socket) -> None:
    cluster = Activated(tmp_path, public, "--workers", "1", port=unused_port())
    cluster.launch()
    assert cluster.wait() == 1
    assert "cluster.host and cluster.port say ('127.0.0.1'" in cluster.output
    without = Activated(tmp_path, public, "--workers", "1", "--no-nginx")
    without.launch()
    assert without.wait() == 1
    assert "only nginx can serve it" in without.output
    assert public_socket({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) is None
    with pytest.raises(ConfigError, match="2 sockets"):
        public_socket({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())})


def test_a_watchdog_of_another_process_is_ignored() -> None:

    assert Systemd({"WATCHDOG_USEC": "3000000"}).watchdog_seconds == 3.0
    assert Systemd({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_seconds == 3.0
    assert Systemd({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0.0
    assert Systemd({"WATCHDOG_USEC": "often"}).watchdog_seconds == 0.0
    Systemd({}).notify("READY=1")  # to nobody
