"""Waiting for conditions, never for time: `until` in plain functions, `eventually` in coroutines.

Both call the condition again and again, return its first true value, and fail the test when there is none in time.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

long_run = pytest.mark.long_run
"""Marks longer runs of what a shorter test tries already. They run where WSD_LONG_TESTS is set (`make test-long`)."""

all_clients = pytest.mark.skipif(not os.environ.get("WSD_ALL_CLIENTS"), reason="runs where WSD_ALL_CLIENTS is set")
"""Marks what is tried with every kind of client, and takes many minutes."""

PATIENCE_SECONDS = 30.0
"""Far more than anything takes: a test that waits this long has failed."""

PAUSE_SECONDS = 0.02
"""The time between two calls of a condition."""


def until(condition: Callable[[], T | None], what: str = "", patience: float = PATIENCE_SECONDS) -> T:
    """Block until `condition()` is true, and return its value.

    For tests and fixtures without an event loop. In a coroutine it would hold up the event loop, and with it every
    client that the test runs there: use `eventually`.
    """
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what or condition}")
        time.sleep(PAUSE_SECONDS)
    return value


async def eventually(condition: Callable[[], T | None], what: str = "", patience: float = PATIENCE_SECONDS) -> T:
    """Wait until `condition()` is true, and return its value. For coroutines: the event loop goes on meanwhile."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what or condition}")
        await asyncio.sleep(PAUSE_SECONDS)
    return value
