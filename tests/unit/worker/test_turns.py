"""Turns: coroutines with much work give way to each other between its steps."""

import asyncio

import pytest

from wsd.worker.manager.turns import Turns

pytestmark = pytest.mark.anyio


async def test_coroutines_with_much_work_take_turns() -> None:
    turns = Turns()
    done: list[str] = []

    async def work(name: str) -> None:
        for _ in range(3):
            await turns()
            done.append(name)

    async def other() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            done.append("other")

    abandoned = turns()
    abandoned.cancel()
    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(work(name))
        tasks.create_task(other())
    assert sorted(done) == sorted("abcde" * 3) + ["other"] * 3
    assert done.index("other") < 3, "nobody else waits for all of it"
    assert done[-1] != "other"
