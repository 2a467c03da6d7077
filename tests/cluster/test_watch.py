"""`wsd status --watch` on a real terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import WSD, Cluster
from tests.support.waiting import until


class Terminal:
    """The side of a pseudo-terminal where a person would sit."""

    def __init__(self, master: int, slave: int, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._master = master
        self._slave = slave
        self._shown = b""

    @property
    def shown(self) -> str:
        """Everything that was drawn since the last key was pressed with `type`."""
        while select.select([self._master], [], [], 0)[0]:
            self._shown += os.read(self._master, 65536)
        return self._shown.decode(errors="replace")

    def sees(self, text: str) -> None:
        try:
            until(lambda: text in self.shown, f"{text!r} on the screen")
        except AssertionError:
            print(self.shown[-6000:], self.process.poll())
            raise

    def type(self, keys: str) -> None:
        self._shown = b""
        os.write(self._master, keys.encode())

    def is_as_before(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)


@contextmanager
def watching(cluster: Cluster, columns: int = 120, lines: int = 40) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        env = {name: value for name, value in cluster.env.items() if name not in ("COLUMNS", "LINES")}
        env["TERM"] = "xterm-256color"
        process = subprocess.Popen(
            [*WSD, "status", "--watch"], cwd=cluster.directory, env=env, stdin=slave, stdout=slave, stderr=slave
        )
        try:
            yield Terminal(master, slave, process)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.anyio
async def test_watch_shows_the_cluster_and_reacts_to_keys(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster, watching(cluster) as terminal:
        terminal.sees("HEALTHY")
        terminal.sees("worker-1")
        terminal.sees("the cluster is up")
        client = await cluster.client()
        terminal.sees("connections \x1b[0m\x1b[1m1 ")
        before = {worker.pid for worker in cluster.status().workers}
        terminal.type("R")
        terminal.sees("restart all workers? y/n")
        terminal.type("n")
        terminal.sees("cancelled")
        assert {worker.pid for worker in cluster.status().workers} == before
        terminal.type("R")
        terminal.sees("y/n")
        terminal.type("y")
        until(lambda: before.isdisjoint(worker.pid for worker in cluster.status().workers))
        terminal.sees("restart is done")
        terminal.type("+")
        terminal.sees("scale from 2 to 3 workers? y/n")
        terminal.type("y")
        terminal.sees("worker-3")
        terminal.sees("scale is done")
        assert cluster.wsd("upgrade").returncode == 0  # it goes on with the next supervisor
        terminal.sees("of the previous supervisor")
        terminal.type("q")
        assert terminal.process.wait(10) == 0
        assert terminal.is_as_before()
        assert "\x1b[?1049l" in terminal.shown  # the screen that was there before
        await client.connection.wait_closed()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_the_terminal_is_as_before_however_it_ends(cluster: Cluster, signum: signal.Signals, code: int) -> None:
    with watching(cluster, 80, 24) as terminal:
        terminal.sees("HEALTHY")
        assert not terminal.is_as_before()
        terminal.process.send_signal(signum)
        assert terminal.process.wait(10) == code
        assert terminal.is_as_before()
        assert "Traceback" not in terminal.shown


def test_watch_waits_for_a_supervisor_that_is_away(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster, watching(cluster) as terminal:
        terminal.sees("HEALTHY")
        assert cluster.process is not None
        cluster.process.kill()
        cluster.process.wait()
        terminal.sees("AWAY")
        cluster.launch()
        terminal.type("k")
        terminal.sees("HEALTHY")


def test_watch_needs_a_terminal_and_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    for arguments in (("--watch",), ("--watch", "--json")):
        result = cluster.wsd("status", *arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "--json" in result.stderr
    nowhere = Cluster(tmp_path)
    with watching(nowhere) as terminal:
        assert terminal.process.wait(10) == 3
        assert "no cluster runs" in terminal.shown
