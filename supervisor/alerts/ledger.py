"""Which alerts follow from the problems that a node has. Pure: the clock is given.

    absent -> waiting -> announced -> absent
    absent -> announced                        urgent: a crash, or a process that is given up

A problem is announced when it has lasted for `delay_seconds`, and its end when it has been absent for as long.
While it is unknown whether a problem is there, it neither begins nor ends.
"""

from collections.abc import Collection, Iterable
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


class OpenProblem(msgspec.Struct, frozen=True):
    """A problem whose begin was announced, and its end was not."""

    problem: str
    text: str
    count: int
    since: float  # in seconds, by the clock of the ledger


class Ledger:
    """The problems that are known. Each begin that `look` returns is followed by exactly one end."""

    def __init__(self, known: Iterable[OpenProblem] = (), now: float = 0.0) -> None:
        """Begin with the problems that an earlier ledger had open. `now` is a monotonic time in seconds."""
        self._entries = {
            each.problem: _Entry(each.text, each.since, now, each.count, is_announced=True) for each in known
        }

    @property
    def open(self) -> list[OpenProblem]:
        """The problems whose begin was announced, and their end was not."""
        return [
            OpenProblem(key, entry.text, entry.count, entry.since)
            for key, entry in self._entries.items()
            if entry.is_announced
        ]

    def look(
        self, found: Iterable[Problem], now: float, delay_seconds: float, unknown: Collection[str] = ()
    ) -> list[Alert]:
        """Return the alerts that are due. `found` are the problems of now, and `now` is a monotonic time in seconds.

        `unknown` are the keys of problems that may be there or not. Crashes and urgent problems are certain all the
        same.
        """
        alerts = []
        for key in unknown:
            if key in self._entries and self._entries[key].is_announced:
                self._entries[key].seen = now
        for problem in found:
            if problem.key in unknown and not (problem.is_urgent or problem.crashes):
                continue
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
                alerts.append(_end(key, entry, "over", entry.seen))
        return alerts

    def close(self, now: float) -> list[Alert]:
        """Return the end of every open problem, because the cluster is stopped. The ledger is empty then."""
        alerts = [
            _end(key, entry, "the cluster was stopped", now)
            for key, entry in self._entries.items()
            if entry.is_announced
        ]
        self._entries.clear()
        return alerts


def _end(key: str, entry: _Entry, why: str, at: float) -> Alert:
    count = max(1, entry.count)
    times = f" ({count} times)" if count > 1 else ""
    return Alert(
        event="ended",
        problem=key,
        text=f"{why}: {entry.text}{times}",
        count=count,
        seconds=round(at - entry.since, 1),
    )
