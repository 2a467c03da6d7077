"""Which alerts follow from the problems that a node has. Pure: the clock is given.

    absent -> waiting -> announced -> absent
    absent -> announced                        urgent: a crash, or a process that is given up

A problem is announced when it has lasted for `delay_seconds`, and its end when it has been absent for as long.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from wsd.supervisor.control.problems import Problem


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator is told. It is sent as JSON."""

    event: Literal["began", "ended", "test"]
    problem: str  # the same text for the begin and the end of a problem
    text: str
    count: int = 1  # how often a process crashed
    seconds: float = 0.0  # how long the problem lasted, for `ended`
    node_id: str = ""
    at: float = 0.0  # seconds since the epoch


@dataclass
class _Entry:
    text: str
    since: float
    seen: float
    count: int
    is_announced: bool = False


class Ledger:
    """The problems that are known. Each begin that `look` returns is followed by exactly one end."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def look(self, found: Iterable[Problem], now: float, delay_seconds: float) -> list[Alert]:
        """Return the alerts that are due. `found` are the problems of now, and `now` is a monotonic time in seconds."""
        alerts = []
        for problem in found:
            entry = self._entries.setdefault(problem.key, _Entry(problem.text, now, now, 0))
            entry.seen = now
            entry.count += problem.crashes
            if not entry.is_announced:
                entry.text = problem.text
                if problem.is_urgent or problem.crashes or now - entry.since >= delay_seconds:
                    entry.is_announced = True
                    count = max(1, entry.count)
                    alerts.append(Alert(event="began", problem=problem.key, text=entry.text, count=count))
        for key, entry in list(self._entries.items()):
            if entry.seen == now:
                continue
            if not entry.is_announced:
                del self._entries[key]  # a blip
            elif now - entry.seen >= delay_seconds:
                del self._entries[key]
                seconds, count = round(entry.seen - entry.since, 1), max(1, entry.count)
                text = f"over: {entry.text}"
                if count > 1:
                    text += f" ({count} times)"
                alerts.append(Alert(event="ended", problem=key, text=text, count=count, seconds=seconds))
        return alerts
