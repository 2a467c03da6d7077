"""The output of `wsd start` with `log.format = "json"`: one JSON object per line, for programs that collect logs.

Every object has the keys `at`, `level`, `process`, `stream` and `message`. `stream` is `log` for a record of wsd or of
an application that logs in wsd's format, `output` for other lines of a process, and `console` for lines of `wsd start`
itself.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from wsd.supervisor.logs.reading import time_of
from wsd.worker.contract.escaping import to_json

LEVELS = {
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "crit": "critical",
    "critical": "critical",
    "alert": "critical",
    "emerg": "critical",
    ".": "debug",
    "-": "debug",
    "*": "info",
    "#": "warning",
}
"""The levels as Python, nginx and Valkey write them, and the level in our records for each."""

# "2026/11/24 12:25:30 [error] 12#0: ..." of nginx; "31301:M 24 Nov 2026 12:24:37.252 * ..." of Valkey;
# "2026-11-24 12:18:00,761 ERROR app: ..." of Python, and "ERROR:root:..." or "INFO:     ..." of it and of uvicorn.
LEVEL = re.compile(
    r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\]"
    r"|\d+:\S+ \d\d? \w{3} \d{4} [\d:.]+ ([.*#-])"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b"
    r"|(DEBUG|INFO|WARNING|ERROR|CRITICAL):)"
)

OURS = ("at", "level", "message")
"""The keys that every record of `JsonFormatter` has."""


def console_line(text: str, now: float) -> str:
    """Return a line of `wsd start` itself as JSON. `now` is in seconds since the epoch."""
    return to_json(_fields(now, "info", "supervisor", "console", text))


def log_line(process: str, text: str, now: float) -> str:
    """Return a line of a process's log as JSON. `now`, in seconds since the epoch, is used for lines without a time."""
    if (record := _record(text)) is not None:
        return to_json({**record, "process": process, "stream": "log"})
    return to_json(_fields(time_of(text) or now, level_of(text), process, "output", text))


def level_of(text: str) -> str:
    """Return the level of a line that is not JSON, or `info` if the line does not name one."""
    found = LEVEL.match(text)
    word = next((group for group in found.groups() if group), "") if found else ""
    return LEVELS.get(word.lower(), "info")


def _record(text: str) -> dict[str, Any] | None:
    """Parse a record in wsd's own format. Returns None for any other line, also for other JSON objects."""
    if not text.startswith("{"):
        return None
    try:
        found = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(found.get(key), str) for key in OURS) else None


def _fields(at: float, level: str, process: str, stream: str, message: str) -> dict[str, str]:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return {"at": when, "level": level, "process": process, "stream": stream, "message": message}
