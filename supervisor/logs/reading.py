"""The lines of log files, filtered by time and text, in order of time."""

import errno
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from wsd.supervisor.errors import ConfigError
from wsd.supervisor.logs.follow import MAX_LINE_BYTES, LogFollower
from wsd.supervisor.machine.private_files import open_regular
from wsd.supervisor.machine.standard_streams import reader_is_gone

# 2026-11-24 12:18:00,761 of Python; 2026/11/24 12:25:30 of nginx; "31301:M 24 Nov 2026 12:24:37.252" of Valkey;
# {"at": "2026-11-24T12:18:00.761+00:00" in JSON, {"at":1795524238.15 of an event.
STAMPS = (
    (re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3})"), "%Y-%m-%d %H:%M:%S"),
    (re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)()"), "%Y/%m/%d %H:%M:%S"),
    (re.compile(r"\d+:\S+ (\d\d? \w{3} \d{4} \d\d:\d\d:\d\d)\.(\d{3})"), "%d %b %Y %H:%M:%S"),
)
JSON_STAMP = re.compile(r'\{"at": "([^"]+)"')
REQUEST_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d) ")
"""The time in a line of nginx about a request that no worker answered."""

EVENT_STAMP = re.compile(r'\{"at":([\d.]+)')

FOLLOW_SECONDS = 0.2

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Line:
    """A line of a log."""

    at: float  # seconds since the epoch; a line without a time has that of the line before
    name: str
    text: str


@dataclass(frozen=True)
class Choice:
    """A filter for lines."""

    since: float = 0.0  # seconds since the epoch
    pattern: re.Pattern[str] | None = None

    def takes(self, line: Line) -> bool:
        """Tell whether a line passes the filter."""
        return line.at >= self.since and (self.pattern is None or self.pattern.search(line.text) is not None)


def choose(since: str | None = None, grep: str | None = None) -> Choice:
    """Make a filter from the options --since and --grep. Raises ConfigError."""
    return Choice(parse_since(since, time.time()) if since else 0.0, parse_pattern(grep) if grep else None)


def parse_since(text: str, now: float) -> float:
    """Parse an age (`5m`, `2h`, `1d`) or a time (`2026-11-24 12:00`), and return it in seconds since the epoch.

    Raises ConfigError.
    """
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        return now - int(found[1]) * UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ConfigError(f'--since must be like 30s, 5m, 2h, 1d or "2026-11-24 12:00", got "{text}"') from None


def parse_pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression that ignores case. Raises ConfigError."""
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as exc:
        raise ConfigError(f'--grep must be a regular expression, got "{text}": {exc}') from None


def time_of(text: str) -> float | None:
    """Return the time in a line of a log, in seconds since the epoch, or None if it has none."""
    try:
        if found := JSON_STAMP.match(text) or REQUEST_STAMP.match(text):
            return datetime.fromisoformat(found[1]).timestamp()
        if found := EVENT_STAMP.match(text):
            return float(found[1])
        for stamp, shape in STAMPS:
            if found := stamp.match(text):
                written = datetime.strptime(found[1], shape)  # noqa: DTZ007 - these programs write local time
                return written.timestamp() + int(found[2] or 0) / 1000
    except ValueError:
        pass  # it only looked like a time
    return None


def read(name: str, path: Path) -> Iterator[Line]:
    """Yield all lines of a log, beginning with the oldest rotated file."""
    at = 0.0
    for each in [*sorted(path.parent.glob(f"{path.name}.*"), key=_age, reverse=True), path]:
        try:
            with TextIOWrapper(open_regular(each), "utf-8", errors="replace", newline="\n") as log:
                for text in iter(lambda log=log: log.readline(MAX_LINE_BYTES), ""):  # type: ignore[misc]
                    at = time_of(text) or at
                    yield Line(at, name, text.rstrip("\r\n"))
        except OSError:  # the file was removed, or is a FIFO
            continue


def merged(paths: Iterable[tuple[str, Path]], choice: Choice, last: int) -> Sequence[Line]:
    """Return the last lines of several logs that pass the filter, in the order of their times.

    `last` is their number; 0 means all.
    """
    found = [line for name, path in paths for line in read(name, path) if choice.takes(line)]
    found.sort(key=lambda line: line.at)
    return found[-last:] if last else found


def lines(paths: Mapping[str, Path], choice: Choice, last: int, *, follow: bool) -> Iterator[Line]:
    """Yield the last lines of several logs as `merged` does, and with `follow` new lines as they come, without end.

    Raises BrokenPipeError when standard output has no reader any more.
    """
    follower = LogFollower(paths)
    yield from merged(paths.items(), choice, last)
    while follow:
        for name, text in follower.lines():
            line = Line(time.time(), name, text)
            if choice.takes(line):
                yield line
        time.sleep(FOLLOW_SECONDS)
        if reader_is_gone():  # writing would fail only with the next line, which may never come
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _age(path: Path) -> int:
    suffix = path.suffix.removeprefix(".")
    return int(suffix) if suffix.isdigit() else 0
