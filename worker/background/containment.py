"""The containment of faults: an exception that is raised on behalf of one client stays with that client.

A loop that serves many clients (a publisher, a listener, a keeper) runs code that acts for one of them. A bug there may
cost that client its connection, and the others nothing. Such code runs within a `Containment`, and the loop itself is
run by `run_repeatedly`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, TypeVar

from wsd.worker.background.waiting import raise_if_cancelled
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

RESTART_SECONDS = 1.0
"""How long `run_repeatedly` waits before it runs a loop again that raised."""

REPEAT_SECONDS = 60.0
"""How often a fault of the same place is logged with its traceback. In between it is only counted."""

faults: Counter[str] = Counter()
"""The number of unexpected exceptions so far, by the place where they were caught."""

T = TypeVar("T")


class Failing(Protocol):
    """A client's connection that can be closed because of a fault."""

    def fail(self) -> None:
        """Close the connection with 1011."""


_logged_at: dict[str, float] = {}
_pause = REPEAT_SECONDS


def report_all() -> None:
    """Log each fault from now on, since the log itself recognizes those that it has shown already."""
    global _pause  # noqa: PLW0603 - how a process logs belongs to the process
    _pause = 0.0


def report(where: str, exc: Exception) -> None:
    """Count an unexpected exception, and log it with its traceback unless one of the same place was logged lately."""
    faults[where] += 1
    now = time.monotonic()
    if now - _logged_at.get(where, float("-inf")) >= _pause:
        _logged_at[where] = now
        logger.error("a fault in %s, %d so far", where, faults[where], exc_info=exc)


class Containment:
    """A `with` block that no exception leaves. An exception is reported, and closes the client's connection."""

    __slots__ = ("_connection", "_where")

    def __init__(self, where: str, connection: Failing | None = None) -> None:
        self._where = where
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(exc, Exception):
            return False
        report(self._where, exc)
        if self._connection is not None:
            self._connection.fail()
        return True


def contained(where: str, connection: Failing, callback: Callable[[T], None]) -> Callable[[T], None]:
    """Make a callback that never raises: an exception in it is reported, and closes the connection."""

    def call(value: T) -> None:
        try:  # the plain form: this is called for every message
            callback(value)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report(where, exc)
            connection.fail()

    return call


async def run_repeatedly(work: Callable[[], Awaitable[None]], where: str) -> None:
    """Run a loop until cancelled. If the loop raises, run it again after a pause."""
    while True:
        with Containment(where):
            await work()
        raise_if_cancelled()
        await asyncio.sleep(RESTART_SECONDS)
