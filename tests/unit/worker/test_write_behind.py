"""Changes are written in batches, one at a time and in order, and none is lost because Redis is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import pytest

from tests.support.waiting import eventually
from wsd.worker.background.write_behind import Batch, WriteBehind
from wsd.worker.errors import RedisUnavailableError

pytestmark = pytest.mark.anyio


@dataclass
class Numbers(Batch):
    numbers: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.numbers)

    def add_older(self, older: Self) -> None:
        self.numbers = older.numbers + self.numbers

    def parts(self) -> Iterable[Self]:
        return [type(self)([number]) for number in self.numbers]


class Server:
    """A server that takes batches, or fails as the test says."""

    def __init__(self, gather_seconds: float = 0.0) -> None:
        self.written: list[list[int]] = []
        self.unavailable: list[RedisUnavailableError] = []
        self.faulty: list[list[int]] = []
        self.fail: Callable[[list[int]], Exception | None] = lambda numbers: None
        self.under_way = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.writer = WriteBehind(
            "numbers",
            Numbers,
            self.write,
            on_unavailable=self.unavailable.append,
            on_faulty=lambda part: self.faulty.append(part.numbers),
            gather_seconds=gather_seconds,
        )

    def add(self, *numbers: int) -> None:
        self.writer.pending.numbers += numbers
        self.writer.wake()

    async def write(self, batch: Numbers) -> None:
        self.under_way += 1
        assert self.under_way == 1, "two writes at a time"
        try:
            await self.answers.wait()
            if (exc := self.fail(batch.numbers)) is not None:
                raise exc
            self.written.append(batch.numbers)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(server.writer.run())
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def turn() -> None:
    """Let the event loop run until all that is ready has run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_changes_that_come_during_a_write_go_together_in_the_next_one() -> None:
    server = Server()
    server.answers.clear()
    async with running(server):
        server.add(1)
        await eventually(lambda: server.under_way)
        server.add(2)
        await turn()
        server.add(3, 4)
        server.answers.set()
        await eventually(lambda: len(server.written) == 2)
        assert server.written == [[1], [2, 3, 4]]


async def test_nothing_is_written_where_nothing_has_changed() -> None:
    server = Server()
    async with running(server):
        server.writer.wake()
        await server.writer.wait_until_tried(30)
    assert server.written == []


async def test_changes_gather_for_a_moment_after_the_first_one() -> None:
    server = Server(gather_seconds=0.05)
    async with running(server):
        server.add(1)
        await turn()
        server.add(2)
        await eventually(lambda: server.written)
        assert server.written == [[1, 2]]


async def test_a_batch_that_redis_rejected_is_written_before_later_changes() -> None:
    server = Server()
    server.fail = lambda numbers: RedisUnavailableError("away")
    async with running(server):
        server.add(1, 2)
        await eventually(lambda: server.unavailable)
        assert server.writer.pending.numbers == [1, 2]
        server.fail = lambda numbers: None
        await turn()
        assert server.written == [], "nobody asked for another try"
        server.add(3)
        await eventually(lambda: server.written)
    assert server.written == [[1, 2, 3]]
    assert [str(exc) for exc in server.unavailable] == ["away"]


async def test_a_write_that_fails_halfway_writes_the_rest_again() -> None:
    server = Server()

    def fail_after_the_first(numbers: list[int]) -> Exception | None:
        server.written.append([numbers.pop(0)])
        return RedisUnavailableError("away")

    server.fail = fail_after_the_first
    server.add(1, 2, 3)
    await server.writer.flush()
    assert (server.written, server.writer.pending.numbers) == ([[1]], [2, 3])


async def test_a_cancelled_write_keeps_its_batch_for_the_last_one() -> None:
    server = Server()
    server.answers.clear()
    async with running(server) as task:
        server.add(1)
        await eventually(lambda: server.under_way)
        server.add(2)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        server.answers.set()
        await server.writer.flush()
    assert server.written == [[1, 2]]


async def test_of_a_batch_that_raises_only_the_guilty_part_is_lost() -> None:
    server = Server()
    server.fail = lambda numbers: ValueError("a bug") if 2 in numbers else None
    server.add(1, 2, 3)
    await server.writer.flush()
    assert server.written == [[1], [3]]
    assert server.faulty == [[2]]
    assert not server.writer.pending
    server.add(4)
    await server.writer.flush()
    assert server.written[-1] == [4]


async def test_parts_that_redis_did_not_take_are_kept() -> None:
    server = Server()

    def fail(numbers: list[int]) -> Exception | None:
        if len(numbers) > 1:
            return ValueError("a bug")
        return RedisUnavailableError("away") if numbers == [2] else None

    server.fail = fail
    server.add(1, 2, 3)
    await server.writer.flush()
    assert (server.written, server.writer.pending.numbers) == ([[1], [3]], [2])


async def test_parts_whose_turn_never_came_are_kept() -> None:
    server = Server()

    def fail(numbers: list[int]) -> Exception | None:
        if numbers == [2]:
            server.answers.clear()  # the write of the third hangs
        return ValueError("a bug") if len(numbers) > 1 else None

    server.fail = fail
    server.add(1, 2, 3, 4)
    task = asyncio.create_task(server.writer.flush())
    await eventually(lambda: len(server.written) == 2 and server.under_way)
    task.cancel()
    await asyncio.wait([task])
    assert server.written == [[1], [2]]
    assert sorted(server.writer.pending.numbers) == [3, 4]


async def test_waiting_ends_with_the_write_even_if_it_failed() -> None:
    server = Server()
    async with running(server):
        for exc in (None, RedisUnavailableError("away"), ValueError("a bug")):
            server.fail = lambda numbers, exc=exc: exc  # type: ignore[misc]
            server.add(1)
            async with asyncio.timeout(30):
                await server.writer.wait_until_tried(60)
    assert (len(server.written), len(server.unavailable)) == (1, 1)


async def test_waiting_ends_in_time() -> None:
    server = Server()
    server.answers.clear()
    async with running(server):
        server.add(1)
        await server.writer.wait_until_tried(0.01)
        assert server.written == []
        server.answers.set()
