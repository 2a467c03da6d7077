"""Restore what a running cluster needs in its state directory when it was removed, e.g. by `git clean -fdx`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import Fact, Incarnation, Phase, Recycle, Unhealthy
from wsd.supervisor.state_dir.directory import StateDir

logger = logging.getLogger(__name__)

GUARD_SECONDS = 1.0


class FileGuard:
    """A guard for the directories, the lock file and the sockets, for as long as `run` runs."""

    def __init__(self, state_dir: StateDir, children: Children, restore_control: Callable[[], Awaitable[bool]]) -> None:
        """`restore_control` binds the control socket again if its file is gone, and returns whether it was.

        It may raise OSError.
        """
        self._state_dir = state_dir
        self._children = children
        self._restore_control = restore_control
        self._failure = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            try:
                await self._look()
            except (CommandError, OSError) as exc:
                if str(exc) != self._failure:  # once, not every second
                    logger.warning(
                        "cannot restore what was removed from the state directory: %s; trying again every second", exc
                    )
                self._failure = str(exc)
            else:
                self._failure = ""

    async def _look(self) -> None:
        """Restore what is missing now. Raises CommandError or OSError."""
        missing = self._state_dir.restore()
        if missing or not self._children.is_recorded:
            self._children.record()
        if missing:
            logger.warning("%s was removed from the state directory: restored", ", ".join(missing))
        if self._state_dir.logs.name in missing:
            logger.warning(
                "running processes still write to the log files that were removed: `wsd restart` gives them new ones"
            )
        if await self._restore_control():
            logger.warning("the control socket was removed: bound again")
        for child in self._children:
            for fact in lost_sockets(child):
                self._children.post(child, fact)


def lost_sockets(child: Child[Service]) -> Iterable[Fact]:
    """Yield a fact for each process of a slot whose socket is gone: new clients cannot find it any more."""
    for incarnation in child.slot.incarnations:
        if not incarnation.leaving and child.service.has_lost_socket(incarnation.number):
            yield _consequence(child, incarnation)


def _consequence(child: Child[Service], incarnation: Incarnation) -> Fact:
    """Return the fact that gets a process without its socket replaced."""
    reason = "has lost its socket"
    # A process that does not serve yet has no clients to drain.
    if not child.service.can_overlap or incarnation.phase is not Phase.READY:
        return Unhealthy(incarnation.number, reason)
    return Recycle(incarnation.number, reason)
