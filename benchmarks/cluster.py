"""Benchmarks of a whole cluster: `python benchmarks/cluster.py [--workers 4] [--runs 3]`.

Starts clusters with `wsd start` in temporary directories, kills and freezes workers, and prints Markdown tables. Times
are medians over the runs, with the worst in parentheses. Linux only.
"""

import argparse
import asyncio
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from websockets.asyncio.client import connect

from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus, WorkerStatus
from wsd.supervisor.state_dir.directory import StateDir

WSD = (sys.executable, "-m", "wsd.supervisor")
IDLE_SECONDS = 20.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class Cluster:
    """A running cluster."""

    def __init__(self, directory: Path, workers: int) -> None:
        self.state_dir = StateDir(directory / ".wsd")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory = directory
        self.workers = workers
        self.output = directory / "output.txt"
        self.launch()

    def launch(self) -> None:
        """Start the supervisor and wait until the cluster is ready."""
        started = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*WSD, "start", "--workers", str(self.workers), "--port", str(self.port)],
                cwd=self.directory,
                stdout=output,
                stderr=output,
            )
        wait_for(lambda: "wsd is up" in self.output.read_text())
        self.start_seconds = time.monotonic() - started

    def status(self) -> ClusterStatus:
        return msgspec.json.decode(ControlClient(self.state_dir).call("GET", "/v1/status"), type=ClusterStatus)

    def replacement(self, slot: int, old_pid: int | None) -> WorkerStatus | None:
        """Return the worker of a slot once it is ready and has another pid than `old_pid`."""
        worker = self.status().workers[slot - 1]
        return worker if worker.state == "ready" and worker.pid != old_pid else None

    def stop(self) -> float:
        """Stop the cluster and return the seconds that it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return time.monotonic() - started


@contextmanager
def cluster(workers: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="wsd-bench-") as directory:
        running = Cluster(Path(directory), workers)
        try:
            yield running
        finally:
            with suppress(ProcessLookupError):
                running.stop()


def wait_for(condition: Callable[[], T | None], patience: float = 60) -> T:
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
    return value


def replaced_after(running: Cluster, signum: signal.Signals) -> float:
    """Send a signal to a worker and return the seconds until its replacement is ready."""
    pid = running.status().workers[0].pid
    assert pid is not None
    started = time.monotonic()
    os.kill(pid, signum)
    wait_for(lambda: running.replacement(1, pid))
    return time.monotonic() - started


async def handshakes_during_kills(running: Cluster, kills: int) -> tuple[int, int]:
    """Make handshakes through nginx, one after the other, while workers are killed.

    Returns how many succeeded and how many failed.
    """
    done = failed = 0
    killing = asyncio.create_task(asyncio.to_thread(kill_one_after_the_other, running, kills))
    while not killing.done():
        try:
            connection = await connect(f"ws://127.0.0.1:{running.port}/ws", open_timeout=20)
        except Exception as exc:  # noqa: BLE001 - every failure is counted
            print(f"handshake failed: {exc!r}", file=sys.stderr)
            failed += 1
        else:
            done += 1
            await connection.close()
    await killing
    return done, failed


def kill_one_after_the_other(running: Cluster, kills: int) -> None:
    workers = len(running.status().workers)
    for number in range(kills):
        slot = number % workers + 1
        pid = running.status().workers[slot - 1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(partial(running.replacement, slot, pid))


def processes(running: Cluster) -> dict[str, list[int]]:
    status = running.status()
    found = {
        "supervisor": [status.supervisor.pid],
        "workers": [worker.pid for worker in status.workers],
        "nginx": [status.nginx.pid if status.nginx else None],
        "Valkey": [status.valkey.pid if status.valkey else None],
    }
    groups = {name: [pid for pid in pids if pid is not None] for name, pids in found.items()}
    for pid in list(groups["nginx"]):
        groups["nginx"] += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return groups


def cpu_seconds(pids: list[int]) -> float:
    """Return user and system time (proc(5), stat, fields 14 and 15)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def pss_mb(pid: int) -> float:
    """Return the memory of a process, with its part of shared pages (proc(5), smaps_rollup)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("no Pss")


def help_seconds() -> float:
    started = time.monotonic()
    subprocess.run([Path(sys.executable).with_name("wsd"), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def row(name: str, values: list[float], unit: str = "s", digits: int = 2) -> str:
    return f"| {name} | {statistics.median(values):.{digits}f} {unit} ({max(values):.{digits}f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    starts: list[float] = []
    stops: list[float] = []
    killed: list[float] = []
    hung: list[float] = []
    idle: dict[str, float] = {}
    pss: dict[str, list[float]] = {}
    done = failed = 0
    for run in range(options.runs):
        with cluster(options.workers) as running:
            starts.append(running.start_seconds)
            if run == 0:
                time.sleep(3)
                groups = processes(running)
                before = {name: cpu_seconds(pids) for name, pids in groups.items()}
                time.sleep(IDLE_SECONDS)
                idle = {name: 100 * (cpu_seconds(pids) - before[name]) / IDLE_SECONDS for name, pids in groups.items()}
                pss = {name: [pss_mb(pid) for pid in pids] for name, pids in groups.items()}
            killed += [replaced_after(running, signal.SIGKILL)]
            hung.append(replaced_after(running, signal.SIGSTOP))
            counts = asyncio.run(handshakes_during_kills(running, 8))
            done, failed = done + counts[0], failed + counts[1]
            stops.append(running.stop())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.workers} workers, {options.runs} runs")
    print("\n| | median (worst) |\n|---|---|")
    print(row("`wsd start` until the cluster is ready", starts))
    print(row("`kill -9` of a worker until its replacement is ready", killed))
    print(row("SIGSTOP of a worker until its replacement is ready", hung))
    print(row("Ctrl-C until all processes have ended, idle", stops))
    print(row("`wsd --help`", [help_seconds() for _ in range(5)]))
    print(f"| handshakes during {8 * options.runs} kills: succeeded, failed | {done}, {failed} |")
    print("\n| | CPU idle, % of a core | PSS, MB each |\n|---|---|---|")
    for name, percent in idle.items():
        print(f"| {name} | {percent:.2f} | {', '.join(f'{value:.1f}' for value in pss[name])} |")
    print(f"| all | {sum(idle.values()):.2f} | {sum(map(sum, pss.values())):.1f} together |")


if __name__ == "__main__":
    main()
