"""`wsd dev`, started by the real command, in a directory and on a port of its own."""

import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.cluster import WSD, clean_env
from tests.support.ports import unused_port
from tests.support.waiting import until
from wsd.client import SyncWsdClient


class DevServer:
    """An application under `wsd dev`: `with DevServer(tmp_path, "chat:app") as dev`. Nothing of it is left behind."""

    def __init__(self, directory: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = unused_port()
        self._output = directory / "output.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                # A program that was started in the background of a shell ignores SIGINT, and so do all that it starts.
                ["env", "--default-signal=INT", *WSD, "dev", *arguments, "--port", str(self.port)],
                cwd=directory,
                env=env or clean_env(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if exc is not None:
            print(self.output)
        started = [self.process]
        try:
            started += psutil.Process(self.process.pid).children(recursive=True)  # type: ignore[arg-type]
        except psutil.NoSuchProcess:
            return
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8")

    def shows(self, text: str, times: int = 1) -> None:
        """Wait until it has printed a text so often."""
        until(lambda: self.output.count(text) >= times, f"{text!r} {times} times in:\n{self.output}")

    def get(self, path: str) -> str:
        """Return the answer to a request, which waits while nothing serves; the status in place of an error."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as exc:
            return str(exc.code)

    def is_open(self) -> bool:
        """Tell whether anybody listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def client(self, user_id: str) -> SyncWsdClient:
        """Return a client of the hub."""
        return SyncWsdClient(f"ws://127.0.0.1:{self.port}/ws", user_id, proxy=None)

    def interrupt(self) -> int:
        """Press Ctrl-C, which reaches all processes of the terminal. Return the exit code."""
        for process in [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())]:
            psutil.Process(process).send_signal(signal.SIGINT)
        return self.process.wait(15)
