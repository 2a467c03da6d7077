"""Define the events of a cluster, and the log handler that appends them to the node's file of events."""

import logging
import os
from dataclasses import asdict, dataclass, fields
from typing import Self

from wsd.worker.contract.escaping import to_json
from wsd.worker.contract.json_records import check_types, decode

LAST_SECOND = 253_370_764_800
"""The first of January 9999, in seconds since the epoch. Later times cannot be shown as dates."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to the cluster, as a text for people.

    All processes of a node append their events to one file, an event a line.
    """

    at: float  # seconds since the epoch
    source: str  # supervisor, worker-2
    level: str  # info, warning, error, critical
    text: str

    def to_json(self) -> str:
        return to_json(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a line of the file of events. Fields that only newer versions know are ignored.

        Raises ValueError if the line is not an event.
        """
        raw = decode(text)
        try:
            known = {f.name: raw[f.name] for f in fields(cls)}
        except (TypeError, KeyError) as exc:
            raise ValueError(f"not an event: {exc!r}") from None
        check_types(cls, known)
        if not 0 <= known["at"] <= LAST_SECOND:
            raise ValueError("not an event: its time is no date before the year 9999")
        return cls(**known)


EVENT = {"event": True}
"""Pass this as `extra` when you log below a warning, to make the record an event."""

MAX_EVENTS_PER_SECOND = 20
"""The limit for one process. In a storm, further events are only in the log of that process."""


NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
"""Opens a FIFO that nobody reads without waiting for a reader. Windows has no such flag, and no FIFOs."""


class EventHandler(logging.Handler):
    """A log handler that appends records of wsd to the file of events: warnings, errors, and those with EVENT."""

    def __init__(self, path: str, source: str) -> None:
        super().__init__()
        self._path = path
        self._source = source
        self._second = 0
        self._written = 0
        self._is_cut = False  # whether the last line was written in part only, because the disk was full

    def filter(self, record: logging.LogRecord) -> bool:
        is_event = record.levelno >= logging.WARNING or getattr(record, "event", False)
        return is_event and record.name.startswith("wsd.") and self._within_rate(int(record.created))

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        event = Event(at=record.created, source=self._source, level=record.levelname.lower(), text=text)
        try:
            # The file is opened for each event, since it may have been rotated. One write() with O_APPEND is one line.
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_WAIT, 0o600)
        except OSError:
            return  # the record is in the log all the same
        begin = "\n" if self._is_cut else ""
        line = f"{begin}{event.to_json()}\n".encode("utf-8", "backslashreplace")
        try:
            self._is_cut = os.write(fd, line) < len(line)
        except OSError:
            return
        finally:
            os.close(fd)

    def _within_rate(self, second: int) -> bool:
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        return self._written <= MAX_EVENTS_PER_SECOND
