"""A uvicorn that serves the applications of `tests.apps.websocket_apps`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.ports import unused_port
from tests.support.raw_websocket import RawSocket, wait_for_port


class Server(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @contextmanager
    def connected(self, path: str = "/", *headers: str) -> Iterator[RawSocket]:
        with RawSocket(self.port) as client:
            assert client.request(path, *headers) == 101, client.head
            yield client


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[Server]:
    port, log = unused_port(), directory / "server.log"
    command = [sys.executable, "-m", "tests.apps.websocket_apps", "--port", str(port), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=Path(__file__).parents[2])
    try:
        wait_for_port(port)
        yield Server(port, process, log)
    finally:
        process.kill()
        process.wait()
