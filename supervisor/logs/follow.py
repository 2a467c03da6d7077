"""Read the ends of log files: new lines as they are written, and the last lines of a process."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from wsd.supervisor.machine.private_files import open_regular

MAX_CHUNK_BYTES = 256 * 1024
MAX_LINE_BYTES = 256 * 1024
"""Longer lines are split, because a program may print forever without a newline."""


class LogFollower:
    """A reader of lines that are appended to a set of files. It keeps at most MAX_LINE_BYTES of an unfinished line."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        """Follow the files from their present ends. A file need not exist yet."""
        self._paths = dict(paths)
        self._offsets = {name: log_size(path) for name, path in paths.items()}
        self._rest = dict.fromkeys(paths, b"")

    def add(self, name: str, path: Path, start: int) -> None:
        """Follow one more file, from byte `start` on."""
        self._paths[name] = path
        self._offsets[name] = start
        self._rest[name] = b""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the name of the log and the text of each line that was completed since the last call."""
        for name, path in list(self._paths.items()):
            for line in self._read(name, path):
                yield name, line.rstrip(b"\r").decode("utf-8", "replace")

    def _read(self, name: str, path: Path) -> list[bytes]:
        try:
            size = path.stat().st_size
            if size == self._offsets[name]:
                return []
            with open_regular(path) as log:
                log.seek(self._offsets[name] if size > self._offsets[name] else 0)  # 0: the file was truncated
                chunk = log.read(MAX_CHUNK_BYTES)
                self._offsets[name] = log.tell()
        except OSError:  # the file was removed, or is a FIFO
            return []
        *whole, rest = (self._rest[name] + chunk).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            whole.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest[name] = rest
        return whole


def log_size(path: Path) -> int:
    """Return the size of a log in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, start: int, lines: int) -> list[str]:
    """Return at most `lines` last lines of what was written to a log after byte `start`."""
    try:
        with open_regular(path) as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(start, end - MAX_CHUNK_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.strip().split("\n")[-lines:] if text.strip() else []
