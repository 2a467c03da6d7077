"""Format log records, as a line of text or as a line of JSON."""

import logging
from datetime import UTC, datetime

from wsd.worker.contract.escaping import escape, to_json


class LineFormatter(logging.Formatter):
    """A formatter of records as text. Line breaks in a message or traceback are followed by an indent.

    Without the indent, a message with a line break in it could forge a record.
    """

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(escape(line, keep="\t") for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """A formatter of records as one line of JSON each."""

    def __init__(self, **always: str) -> None:
        """Make a formatter that adds the fields `always` to every line."""
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
