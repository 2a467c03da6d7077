"""The supervisor's own log: a file like those of its processes."""

import contextlib
import logging
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path

from wsd.supervisor.config.settings import LogConfig
from wsd.worker.contract.events import EventHandler
from wsd.worker.contract.log_format import JsonFormatter, LineFormatter


class LogFile(WatchedFileHandler):
    """A log file that is opened again when it was removed. A line that cannot be written is dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # raised when the file cannot be opened again
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Ignore an OSError, e.g. of a full disk: logging would print a traceback to the terminal for every line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to(path: Path, events: Path, config: LogConfig) -> None:
    """Send the log of this process to the file `path`, and its events also to the file `events`."""
    handler = LogFile(path, encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(handlers=[handler], level=config.level.upper(), force=True)
    root = logging.getLogger()
    root.handlers[0].setFormatter(
        JsonFormatter(process="supervisor")
        if config.format == "json"
        else LineFormatter("%(asctime)s %(levelname)s %(message)s")
    )
    root.addHandler(EventHandler(str(events), "supervisor"))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
