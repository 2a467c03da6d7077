"""Many clients in one process, which come back whenever they can, and how far their ways back are spread."""

import json
import shutil
import statistics
import subprocess
import sys
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.apps import APPS
from tests.support.client_programs import NODES, javascript_files, node_versions
from tests.support.cluster import ROOT, clean_env


class Crowd:
    """Many clients of one kind. Their states come in another thread."""

    def __init__(self, kind: str, process: "subprocess.Popen[str]", count: int) -> None:
        self.kind = kind
        self.states: list[list[str]] = [[] for _ in range(count)]
        self.attempts: list[float] = []
        """When the clients began to connect, in seconds since 1970."""
        self._reading = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reading.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            self.states[event["number"]].append(event["state"])
            if event["state"] == "connecting":
                self.attempts.append(event["at"])

    @property
    def are_open(self) -> bool:
        """True if each client has a connection, as far as it has reported."""
        return all(states[-1:] == ["open"] for states in self.states)

    @property
    def returned(self) -> int:
        """Count the clients that have had another connection before."""
        return sum(states.count("open") > 1 for states in self.states)

    def join(self) -> None:
        self._reading.join(10)


def crowd_command(kind: str, directory: Path) -> list[str]:
    if kind not in NODES:
        return [sys.executable, "-m", "tests.apps.returning_clients"]
    files = javascript_files(directory)
    shutil.copy(APPS / "returning_clients.mjs", files)
    options = ["--experimental-websocket", "--no-warnings"] if kind == "node20" else []
    return [str(node_versions()[kind]), *options, str(files / "returning_clients.mjs")]


@contextmanager
def crowd(kind: str, directory: Path, url: str, count: int, token: str) -> Iterator[Crowd]:
    """Run many clients of a Node or of asyncio until the block ends."""
    command = [*crowd_command(kind, directory), url, str(count), token]
    with subprocess.Popen(command, cwd=ROOT, env=clean_env(), stdout=subprocess.PIPE, text=True) as process:
        clients = Crowd(kind, process, count)
        try:
            yield clients
        finally:
            process.kill()
            clients.join()


@dataclass(frozen=True)
class Spread:
    """When handshakes came, in seconds after the fault, and how many of them came within 50 ms at most."""

    count: int
    first: float
    median: float
    last: float
    most_within_50_ms: int


def spread(times: list[float]) -> Spread:
    """Tell how far handshakes are spread. `times`: at least one, in seconds after the fault."""
    ordered = sorted(times)
    most = max(bisect_right(ordered, time + 0.05) - index for index, time in enumerate(ordered))
    return Spread(len(ordered), ordered[0], statistics.median(ordered), ordered[-1], most)
