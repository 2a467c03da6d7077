"""A Redis that is not wsd's: what a test starts for itself."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import until
from wsd.supervisor.valkey import find_binary


@contextlib.contextmanager
def valkey(directory: Path, port: int, *options: str) -> Iterator[str]:
    """A server on a TCP port of loopback, as others run it; yields its URL."""
    binary = find_binary()
    assert binary is not None
    directory.mkdir(exist_ok=True)
    with (directory / "valkey.log").open("wb") as log:
        command = [
            str(binary),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(directory),
            *options,
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: b"Ready to accept connections" in (directory / "valkey.log").read_bytes())
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
