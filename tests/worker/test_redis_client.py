"""What the worker must know of redis-py."""

import asyncio
import contextlib

import pytest

from wsd.worker.redis_client import raise_if_cancelled

pytestmark = pytest.mark.anyio


async def test_a_swallowed_cancellation_is_raised_again() -> None:
    went_on = False

    async def swallow() -> None:
        nonlocal went_on
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        raise_if_cancelled()
        went_on = True

    task = asyncio.create_task(swallow())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not went_on


async def test_without_a_cancellation_nothing_is_raised() -> None:
    raise_if_cancelled()
