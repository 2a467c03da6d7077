"""Restores what a running cluster needs in its state directory when it was removed, by `git clean -fdx` for example."""

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
    """Looks after directories, lock and sockets, until `run` is cancelled."""

    def __init__(self, state_dir: StateDir, children: Children, restore_control: Callable[[], Awaitable[bool]]) -> None:
        """`restore_control` binds the control socket anew if its file is gone, and returns whether that was so.

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
                    logger.warning("what was removed from the state directory cannot be restored: %s", exc)
                self._failure = str(exc)
            else:
                self._failure = ""

    async def _look(self) -> None:
        """Restore what is missing now. Raises CommandError or OSError."""
        missing = self._state_dir.restore()
        if missing or not self._children.is_recorded:
            self._children.record()
        if missing:
            logger.warning("somebody has removed %s: restored", ", ".join(missing))
        if self._state_dir.logs.name in missing:
            logger.warning("processes that run already write into logs that were removed, until `wsd restart`")
        if await self._restore_control():
            logger.warning("the control socket was removed: bound anew")
        for child in self._children:
            for fact in lost_sockets(child):
                self._children.post(child, fact)


def lost_sockets(child: Child[Service]) -> Iterable[Fact]:
    """Yield a fact for each process of a slot whose socket is gone: new clients cannot find it any more."""
    for incarnation in child.slot.incarnations:
        if not incarnation.leaving and child.service.has_lost_socket(incarnation.number):
            yield _consequence(child, incarnation)


def _consequence(child: Child[Service], incarnation: Incarnation) -> Fact:
    reason = "has lost its socket"
    # A process that does not serve yet has nothing to hand over.
    if not child.service.can_overlap or incarnation.phase is not Phase.READY:
        return Unhealthy(incarnation.number, reason)
    return Recycle(incarnation.number, reason)
