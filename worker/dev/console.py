"""The log of `wsd dev` on the terminal: lines as in production, but errors of the application once, and marked."""

import logging
import os
import sys

from wsd.worker.background import containment
from wsd.worker.contract.escaping import escape
from wsd.worker.contract.log_format import LineFormatter
from wsd.worker.dev.error_report import IsOwn, Repetitions, report_of
from wsd.worker.logs import log_to

MARK = "✗"


class DevConsole(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes records to stderr. A record with an exception is written once; its repetitions are counted."""

    def __init__(self, is_own: IsOwn) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
        self._is_own = is_own
        self._repetitions = Repetitions()
        coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        self._mark = f"\x1b[1;31m{MARK}\x1b[0m" if coloured else MARK

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        if exc is None:
            super().emit(record)
            return
        try:
            self._write(record, exc)
        except Exception:  # noqa: BLE001 - as all handlers do
            self.handleError(record)

    def _write(self, record: logging.LogRecord, exc: BaseException) -> None:
        report = report_of(exc, self._is_own)
        count = self._repetitions.count(report)
        if count == 1:
            context = record.getMessage().strip().partition("\n")[0]  # asyncio adds lines about its objects
            title = f"{escape(context)}: {escape(report.title)}"
            lines = [escape(line, keep="\t") for line in report.traceback.split("\n")]
            self.stream.write("\n    ".join([f"{self._mark} {title}", *lines]) + "\n")
        elif count:
            self.stream.write(f"{self._mark} again, {count} times so far: {escape(report.title)}\n")
        self.flush()


def log_to_terminal(level: str, is_own: IsOwn) -> None:
    """Log to the terminal, and show what the server and asyncio say of the application, however it configures logs."""
    console = DevConsole(is_own)
    log_to(console, level)
    containment.report_all()
    for name in ("uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(console)
        logger.propagate = False
        logger.setLevel(logging.WARNING)
