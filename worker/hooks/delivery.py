"""Handing out the events of a queue, on one worker at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from wsd.worker.background.waiting import end_tasks, raise_if_cancelled
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.hooks.event_queue import Entry, EventQueue, Waiting
from wsd.worker.logs import get_logger

logger = get_logger(__name__)

POLL_SECONDS = 0.2
"""How often the worker with the lease looks for events, while there are none."""

TAKE_SECONDS = 1.0
"""How often the other workers try to take the lease."""

RENEW_SECONDS = 2.5
"""How often the worker with the lease renews it. A lease that is lost is noticed this much later at most."""

READ = 100
"""Events that are read, and handled, together."""

RELEASE_SECONDS = 1.0
"""How long a worker that stops may take to give up its lease. Without an answer, the lease runs out by itself."""

Handle = Callable[[Sequence[Entry]], Awaitable[None]]


class Delivery:
    """The reader of a queue: hands out its events while this worker has the lease."""

    def __init__(self, name: str, queue: EventQueue, handle: Handle) -> None:
        """`handle` gets events in their order, and removes from the queue what it has handled."""
        self.waiting = Waiting()
        """What was in the queue when this worker looked last. Empty while another worker has the lease."""
        self._name = name
        self._queue = queue
        self._handle = handle

    async def run(self) -> None:
        """Hand out events until cancelled."""
        while True:
            try:
                if await self._queue.take():
                    await self._serve()
            except RedisUnavailableError as exc:
                logger.debug("the events for %s are read later: %s", self._name, exc)
            raise_if_cancelled()
            await asyncio.sleep(TAKE_SECONDS)

    async def _serve(self) -> None:
        """Hand out events for as long as this worker has the lease."""
        serving = asyncio.create_task(self._hand_out())
        try:
            while not serving.done() and await self._queue.renew():
                await asyncio.wait({serving}, timeout=RENEW_SECONDS)
            if serving.done():
                serving.result()  # it has raised
        finally:
            self.waiting = Waiting()
            await end_tasks(serving)
            with suppress(RedisUnavailableError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._queue.release()

    async def _hand_out(self) -> None:
        dropped: int | None = None
        while True:
            self.waiting = await self._queue.waiting()
            if dropped is not None and self.waiting.dropped > dropped:
                logger.error("dropped %d events: too many waited for %s", self.waiting.dropped - dropped, self._name)
            dropped = self.waiting.dropped
            entries = await self._queue.read(READ) if self.waiting.count else []
            if entries:
                await self._handle(entries)
            else:
                await asyncio.sleep(POLL_SECONDS)
