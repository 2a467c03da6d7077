"""A job on PostgreSQL that only one relay of a cluster does at a time."""

import asyncio
import random
from abc import ABC, abstractmethod

from wsd.worker.contract.events import EVENT
from wsd.worker.logs import get_logger
from wsd.worker.postgres import PostgresUnavailableError, Session, SharedSessionError

logger = get_logger(__name__)

STAND_BY_SECONDS = 0.5
"""How often a relay that stands by tries to take over.

It asks, and does not wait in PostgreSQL: a statement that waits for hours would keep dead rows of all tables.
"""

RETRY_FIRST_SECONDS = 0.25
RETRY_MAX_SECONDS = 2.0
"""The ceilings of the random pauses after a failure: the first, and the highest."""


class LockedJob(ABC):
    """A job that belongs to the relay whose session in PostgreSQL has the lock of the job."""

    def __init__(self, url: str, lock: str, *, does: str, cannot: str, again: str) -> None:
        """`url` must be one at which a connection to PostgreSQL is a session of its own. `lock` names the lock.

        The others are for the log: what the job does ("publishes rows"), that it cannot ("cannot publish"), and that it
        can again ("publishes again").
        """
        self._url = url
        self._lock = lock
        self._does = does
        self._cannot = cannot
        self._again = again
        self._problem = ""
        self._failures = 0

    @abstractmethod
    async def _work(self, session: Session) -> None:
        """Do the job in a session that has the lock, without end. Raises PostgresUnavailableError."""

    @abstractmethod
    def _show(self, *, active: bool, problem: str) -> None:
        """Show whether this relay does the job, and why it cannot at present ("" if it can)."""

    async def run(self) -> None:
        """Do the job until cancelled. Connect anew whenever PostgreSQL was away."""
        while True:
            try:
                async with await Session.open(self._url) as session:
                    await session.check_own()
                    await session.keep_alive()
                    await self._stand_by(session)
                    await self._work(session)
            except PostgresUnavailableError as exc:
                kind = "" if isinstance(exc, SharedSessionError) else "PostgreSQL: "
                self._failed(f"{kind}{exc}", active=False)
                await self._pause()

    async def _stand_by(self, session: Session) -> None:
        """Wait until this relay has the lock."""
        is_first = True
        while not await session.try_lock(self._lock):
            if is_first:
                logger.info("stands by, another relay %s", self._does)
                is_first = False
            self._works(active=False)
            await asyncio.sleep(STAND_BY_SECONDS)
        logger.info("%s", self._does, extra=EVENT)

    def _works(self, *, active: bool) -> None:
        if self._problem:
            logger.info("%s", self._again, extra=EVENT)
        self._failures = 0
        self._problem = ""
        self._show(active=active, problem="")

    def _failed(self, problem: str, *, active: bool) -> None:
        if problem != self._problem:
            logger.warning("%s: %s", self._cannot, problem)
        self._failures += 1
        self._problem = problem
        self._show(active=active, problem=problem)

    async def _pause(self) -> None:
        """Wait before the next try: longer after each failure in a row."""
        ceiling = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2 ** min(self._failures - 1, 10))
        await asyncio.sleep(random.uniform(ceiling / 2, ceiling))
