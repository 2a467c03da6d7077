"""The functions of the application."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import astuple, dataclass
from typing import Any

from wsd.client.effects import Left, State

logger = logging.getLogger("wsd.client")

TokenFunction = Callable[[], str | Awaitable[str | None] | None]
Token = str | TokenFunction
"""A token, or a function that is asked for one: before each connection, or before each subscription to a channel."""


@dataclass(frozen=True)
class Callbacks:
    """The functions that belong to no channel, and the way in which all are called."""

    on_state: Callable[[State], object] | None = None
    on_left: Callable[[Left], object] | None = None
    on_error: Callable[[Exception], object] | None = None

    async def call(self, function: Callable[[Any], object], argument: object) -> None:
        """Call a function. What it raises goes to `on_error` or to the log, and changes nothing else."""
        try:
            found = function(argument)
            if inspect.isawaitable(found):
                await found
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            await self._report(RuntimeError(f"{function} was cancelled"))
        except Exception as exc:  # noqa: BLE001 - of the application
            await self._report(exc)

    async def left(self, left: Left) -> None:
        """Tell the application that the client is no longer in a channel."""
        if self.on_left is not None:
            await self.call(self.on_left, left)
        else:
            log_left(left)

    async def _report(self, problem: Exception) -> None:
        try:
            if self.on_error is None:
                raise problem
            found = self.on_error(problem)
            if inspect.isawaitable(found):
                await found
        except Exception:
            logger.exception("a function of the application failed")


async def token_of(function: TokenFunction) -> tuple[str | None, str]:
    """Ask the application for a token. Return the token, None for none, and why it could not be had, "" if it could."""
    try:
        found = function()
        token = await found if inspect.isawaitable(found) else found
    except asyncio.CancelledError:
        if is_being_cancelled():
            raise
        return None, "the function was cancelled"
    except Exception as exc:  # noqa: BLE001 - of the application
        # A KeyError says the key alone.
        return None, repr(exc) if isinstance(exc, KeyError) else str(exc) or type(exc).__name__
    return token or None, ""


def log_left(left: Left) -> None:
    logger.warning("the client is no longer in %s: %s: %s", *astuple(left))


def is_being_cancelled() -> bool:
    """Return whether somebody cancels the current task. Otherwise, what the task awaited was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
