"""Waiting with a time limit, and cancellations that were swallowed."""

import asyncio
import contextlib

import pytest

from wsd.worker.background.waiting import raise_if_cancelled, wait_at_most

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


async def test_waiting_ends_when_the_event_is_set() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await wait_at_most(event, 60)


async def test_an_event_that_is_set_already_is_not_waited_for() -> None:
    event = asyncio.Event()
    event.set()
    assert await wait_at_most(event, 0)


async def test_waiting_ends_when_its_time_is_over() -> None:
    assert not await wait_at_most(asyncio.Event(), 0.01)
