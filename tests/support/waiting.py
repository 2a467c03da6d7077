"""Wait for conditions, never for time."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

long_run = pytest.mark.skipif(not os.environ.get("WSD_LONG_TESTS"), reason="runs where WSD_LONG_TESTS is set")
"""For further runs of what a shorter one tries already."""

PATIENCE_SECONDS = 30.0
"""Far more than anything takes: a test that waits so long has failed."""


def until(condition: Callable[[], T | None], what: str = "", patience: float = PATIENCE_SECONDS) -> T:
    """The first true value of `condition`; the test fails when there is none in time."""
    deadline = time.monotonic() + patience
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what or condition}")
        time.sleep(0.02)


async def eventually(condition: Callable[[], T | None], what: str = "", patience: float = PATIENCE_SECONDS) -> T:
    """As `until`, without holding up the event loop."""
    deadline = time.monotonic() + patience
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what or condition}")
        await asyncio.sleep(0.02)
