"""Servers of Redis that tests start, freeze and kill themselves."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from redis._parsers.base import BaseParser

from tests.support.waiting import until
from wsd.supervisor.services.valkey import find_binary


class Valkey:
    """A Valkey on a TCP port of loopback, which no cluster has started."""

    def __init__(self, directory: Path, port: int, *options: str) -> None:
        self.url = f"redis://127.0.0.1:{port}"
        self._directory = directory
        self._options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory), *options)
        directory.mkdir(exist_ok=True)
        self.start()

    def start(self) -> None:
        binary = find_binary()
        assert binary is not None
        log = self._directory / "valkey.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen([str(binary), *self._options], stdout=output, stderr=output)
        ready = b"Ready to accept connections"
        until(lambda: ready in log.read_bytes() or self.process.poll() is not None, f"Valkey: {log}")
        assert ready in log.read_bytes(), log.read_text()

    def freeze(self) -> None:
        """Stop the process. It keeps its connections, and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def server(directory: Path, port: int, *options: str) -> Iterator[Valkey]:
    running = Valkey(directory, port, *options)
    try:
        yield running
    finally:
        running.kill()


@contextlib.contextmanager
def valkey(directory: Path, port: int, *options: str) -> Iterator[str]:
    """Run a server like `server` does, and yield its URL."""
    with server(directory, port, *options) as running:
        yield running.url


def error_of(answer: str) -> Exception:
    """Return the exception that redis-py raises for an error that a server answers with."""
    error: Exception = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    return error
