"""Format log records, as a line of text or as a line of JSON."""

import logging
from datetime import UTC, datetime

from wsd.worker.contract.escaping import escape, to_json


class LineFormatter(logging.Formatter):
    """A log record as one line; the further lines of a text or a traceback are indented, so that none looks like a
    record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(escape(line, keep="\t") for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def __init__(self, **always: str) -> None:
        """`always`: fields of every line."""
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._always,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return to_json(fields)
