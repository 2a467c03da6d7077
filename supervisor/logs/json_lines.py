"""The output of `wsd start` with `log.format = "json"`: one JSON object a line, for programs that collect logs.

Every object has `at`, `level`, `process`, `stream` and `message`. `stream` is `log` for a record of wsd or of an
application that logs in wsd's format, `output` for what a program printed, and `console` for what `wsd start` says.
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
"""Levels as Python, nginx and Valkey write them, and as our records have them."""

# "2026/11/24 12:25:30 [error] 12#0: ..." of nginx; "31301:M 24 Nov 2026 12:24:37.252 * ..." of Valkey;
# "2026-11-24 12:18:00,761 ERROR app: ..." of Python, and "ERROR:root:..." or "INFO:     ..." of it and of uvicorn.
LEVEL = re.compile(
    r"(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\]"
    r"|\d+:\S+ \d\d? \w{3} \d{4} [\d:.]+ ([.*#-])"
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b"
    r"|(DEBUG|INFO|WARNING|ERROR|CRITICAL):)"
)

OURS = ("at", "level", "message")
"""What a record of `JsonFormatter` has in any case."""


def console_line(text: str, now: float) -> str:
    """Return a line that `wsd start` says, as JSON. `now`: seconds since the epoch."""
    return to_json(_fields(now, "info", "supervisor", "console", text))


def log_line(process: str, text: str, now: float) -> str:
    """Return a line of a process's log as JSON. `now`: seconds since the epoch, for lines without a time."""
    if (record := _record(text)) is not None:
        return to_json({**record, "process": process, "stream": "log"})
    return to_json(_fields(time_of(text) or now, level_of(text), process, "output", text))


def level_of(text: str) -> str:
    """Return the level of a line that is not JSON, `info` where it does not say."""
    found = LEVEL.match(text)
    word = next((group for group in found.groups() if group), "") if found else ""
    return LEVELS.get(word.lower(), "info")


def _record(text: str) -> dict[str, Any] | None:
    """Return a record in wsd's own format, or None: other objects may hold anything under our names."""
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
