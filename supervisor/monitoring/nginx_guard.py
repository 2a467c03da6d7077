"""Restore the configuration of nginx when somebody else has changed it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from wsd.supervisor.errors import CommandError
from wsd.supervisor.services.nginx import NginxService

logger = logging.getLogger(__name__)

GUARD_SECONDS = 2.0
"""Pause between two looks at the file."""


class NginxGuard:
    """A guard for the configuration that was rendered for nginx, for as long as `run` runs.

    Edits of that file would be lost with the next reload. They are undone at once, with a warning, so that whoever
    makes them learns that wsd.toml is the file to edit.
    """

    def __init__(
        self, service: NginxService, restore: Callable[[], Awaitable[None]], is_busy: Callable[[], bool]
    ) -> None:
        """`restore` writes the file and makes nginx read it, or raises CommandError or OSError.

        While `is_busy`, an operation is changing the file itself, and the guard does nothing.
        """
        self._service = service
        self._restore = restore
        self._is_busy = is_busy

    async def run(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            if self._service.is_as_written or self._is_busy():
                continue
            logger.warning("nginx.conf was changed or removed by somebody else: restored; edit wsd.toml instead")
            try:
                await self._restore()
            except (CommandError, OSError) as exc:
                logger.warning("nginx.conf could not be restored: %s", exc)
