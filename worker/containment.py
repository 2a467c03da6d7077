"""Contains faults: an exception raised on behalf of one client stays with that client.

Whatever serves many clients (a publisher, a listener, a keeper) runs code that acts for one of them. A bug there must
cost that one its connection, and nobody else anything. Such code runs within `Containment`, and a loop that never ends
is run by `run_repeatedly`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, TypeVar

from wsd.worker.logs import get_logger
from wsd.worker.waiting import raise_if_cancelled

logger = get_logger(__name__)

RESTART_SECONDS = 1.0
"""How long a loop that raised rests before it goes on."""

REPEAT_SECONDS = 60.0
"""How often the same fault is logged with its traceback; between two of them it is only counted."""

faults: Counter[str] = Counter()
"""Exceptions that nobody expected, by where they were caught."""

T = TypeVar("T")


class Failing(Protocol):
    """A client's connection, as far as a fault needs it."""

    def fail(self) -> None:
        """Close it with 1011."""


_logged_at: dict[str, float] = {}


def report(where: str, exc: Exception) -> None:
    """Log an exception that nobody expected, with its traceback unless one of the same place was logged lately."""
    faults[where] += 1
    now = time.monotonic()
    if now - _logged_at.get(where, -REPEAT_SECONDS) >= REPEAT_SECONDS:
        _logged_at[where] = now
        logger.error("a fault in %s, %d so far", where, faults[where], exc_info=exc)


class Containment:
    """A `with` block that no exception leaves: it is reported, and the connection that it acts for is closed."""

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
    """Make a callback that never raises: a fault in it ends the connection that it acts for."""

    def call(value: T) -> None:
        try:  # the plain form: this is called for every message
            callback(value)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report(where, exc)
            connection.fail()

    return call


async def run_repeatedly(work: Callable[[], Awaitable[None]], where: str) -> None:
    """Run a loop that ends only when it is cancelled: one that raises is begun again after a pause."""
    while True:
        with Containment(where):
            await work()
        raise_if_cancelled()
        await asyncio.sleep(RESTART_SECONDS)
