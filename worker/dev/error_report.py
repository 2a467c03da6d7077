"""The text about an exception in the application: its traceback, cut to the application's own code. Pure."""

import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

IsOwn = Callable[[str], bool]
"""Tells whether a file belongs to the application."""


@dataclass(frozen=True)
class ErrorReport:
    """An exception in words."""

    title: str  # one line: the exception, and where it was raised
    traceback: str
    place: tuple[str, ...]
    """The same for two exceptions that are the same error: its type, and the lines of code that led to it."""


def report_of(exc: BaseException, is_own: IsOwn) -> ErrorReport:
    """Describe an exception. Frames of libraries are left out, unless there are no others."""
    found = traceback.TracebackException.from_exception(exc, compact=True)
    _leave_out_libraries(found, is_own)
    kind = type(exc).__name__
    first = next(iter(str(exc).splitlines()), "")
    title = f"{kind}: {first}" if first else kind
    frames = [(frame.filename, frame.lineno) for frame in found.stack]
    if isinstance(exc, SyntaxError):
        frames.append((exc.filename or "", exc.lineno))
        title = f"{kind}: {exc.msg}"
    if frames:
        file, line = frames[-1]
        title += f" ({Path(file).name}:{line})"
    return ErrorReport(
        title, "".join(found.format()).rstrip("\n"), (kind, *(f"{name}:{line}" for name, line in frames))
    )


def _leave_out_libraries(found: traceback.TracebackException, is_own: IsOwn) -> None:
    own = [frame for frame in found.stack if is_own(frame.filename)]
    if own or (found.exc_type is not None and issubclass(found.exc_type, SyntaxError)):
        found.stack[:] = own
    for related in (found.__cause__, found.__context__, *(found.exceptions or ())):
        if related is not None:
            _leave_out_libraries(related, is_own)


def code_in(directories: Iterable[str]) -> IsOwn:
    """Return a function that tells whether a file is in one of the directories, and in no library that is there."""
    roots = [Path(directory) for directory in directories]
    libraries = [Path(path) for path in (sys.prefix, sys.base_prefix)]

    def is_own(filename: str) -> bool:
        path = Path(filename)
        if any(path.is_relative_to(library) for library in libraries) or "site-packages" in path.parts:
            return False
        return any(path.is_relative_to(root) for root in roots)

    return is_own


class Repetitions:
    """Counts errors, and says which of their repetitions are worth a line: the 2nd, the 10th, the 100th and so on."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()

    def count(self, report: ErrorReport) -> int:
        """Count an error. Return how often it has occurred if that is worth telling, and 0 if it is not."""
        self._counts[report.place] += 1
        count = self._counts[report.place]
        return count if count <= 2 or _is_power_of_ten(count) else 0


def _is_power_of_ten(count: int) -> bool:
    return str(count).rstrip("0") == "1"
