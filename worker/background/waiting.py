"""Waiting for an event with a time limit, and cancellations that must not be lost."""

import asyncio
from contextlib import suppress
from typing import Any

STALL_SECONDS = 1.0
"""A timer that fires this much later than it was due shows that the process was stopped, swapped out or starved."""


async def wait_at_most(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, for `seconds` at most; None is no limit. Return whether the event is set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def end_tasks(*tasks: "asyncio.Task[Any]") -> list[Exception]:
    """Cancel tasks and wait until they have ended. Return the exceptions that they have raised.

    If the caller is cancelled meanwhile, the CancelledError keeps its message, by which anyio knows its own. That of
    `asyncio.gather` would be the one of the tasks.
    """
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    raised = [task.exception() for task in tasks if not task.cancelled()]
    return [exc for exc in raised if isinstance(exc, Exception)]


def raise_if_cancelled() -> None:
    """Raise CancelledError if the current task was cancelled and the code that it awaited has swallowed that.

    Code that others wrote may swallow a cancellation. A loop that goes on after it would never end, and the code that
    cancelled the loop would wait for it forever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
