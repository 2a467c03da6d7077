"""Changes that are gathered in memory and written to Redis in batches, so that the code that makes them never waits."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, Self, TypeVar

from wsd.worker.background.containment import report
from wsd.worker.background.waiting import raise_if_cancelled, wait_at_most
from wsd.worker.errors import RedisUnavailableError


class Batch(ABC):
    """Changes that are written together. A new batch is empty."""

    @abstractmethod
    def __bool__(self) -> bool:
        """Tell whether there is anything to write."""

    @abstractmethod
    def add_older(self, older: Self) -> None:
        """Take in what is left of a batch that could not be written. Where both have a change, this one's is newer."""

    def parts(self) -> Iterable[Self]:
        """Split the batch by what a fault may concern (a session, a channel), if that is possible.

        The parts of a batch that raised are written one by one, so that only the guilty part is lost.
        """
        return ()


B = TypeVar("B", bound=Batch)


class WriteBehind(Generic[B]):
    """A loop that writes changes in batches, one batch at a time, in the order in which they were made.

    Code that has a change adds it to `pending` and calls `wake`. Changes that come while a write is under way go
    together in the next one: a thousand clients that connect at once cost a few round trips.

    A batch that could not be written, because Redis was unavailable or because the write was cancelled, is kept and
    written with the next one. There is no retry without a `wake`: the owner knows best when Redis is back.

    Nothing is written unless `run` runs, or `flush` is called after it.
    """

    def __init__(
        self,
        name: str,
        new_batch: Callable[[], B],
        write: Callable[[B], Awaitable[None]],
        *,
        on_unavailable: Callable[[RedisUnavailableError], None],
        on_faulty: Callable[[B], None] = lambda part: None,
        gather_seconds: float = 0.0,
    ) -> None:
        """`name`: for logs. `write` raises RedisUnavailableError for a batch that is to be kept; it may take out of the
        batch what it has written. `on_unavailable` is called with that error. `on_faulty` is called with a batch, or a
        part of one, whose write raised anything else: that is lost. `gather_seconds`: how long to wait for further
        changes after the first one."""
        self.pending = new_batch()
        self._name = name
        self._new_batch = new_batch
        self._write = write
        self._on_unavailable = on_unavailable
        self._on_faulty = on_faulty
        self._gather_seconds = gather_seconds
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()

    def wake(self) -> None:
        """Let `run` write `pending` soon."""
        self._wake.set()

    async def wait_until_tried(self, seconds: float) -> None:
        """Let `run` write `pending`, and wait until that has succeeded or failed, for `seconds` at most."""
        tried = self._tried
        self._wake.set()
        await wait_at_most(tried, seconds)

    async def run(self) -> None:
        """Write until cancelled. What is left then is in `pending`."""
        while True:
            await self._wake.wait()
            if self._gather_seconds:
                await asyncio.sleep(self._gather_seconds)
            self._wake.clear()
            await self.flush()
            raise_if_cancelled()

    async def flush(self) -> None:
        """Write `pending` once. Others than `run` call this when `run` has ended: only one write may be under way."""
        batch, self.pending = self.pending, self._new_batch()
        tried, self._tried = self._tried, asyncio.Event()
        try:
            if batch:
                await self._try(batch, batch.parts)
        finally:
            tried.set()

    async def _try(self, batch: B, parts: Callable[[], Iterable[B]]) -> None:
        try:
            await self._write(batch)
        except RedisUnavailableError as exc:
            self.pending.add_older(batch)
            self._on_unavailable(exc)
        except asyncio.CancelledError:
            self.pending.add_older(batch)
            raise
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            report(self._name, exc)
            if smaller := deque(parts()):
                await self._try_each(smaller)
            else:
                self._on_faulty(batch)

    async def _try_each(self, parts: deque[B]) -> None:
        try:
            while parts:
                await self._try(parts.popleft(), lambda: ())
        finally:  # cancelled
            for part in parts:
                self.pending.add_older(part)
