"""What people have the supervisor do to a running cluster: one thing at a time, its progress told to all who ask."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import Struct

from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.errors import CommandError
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


class Progress(Struct, frozen=True, omit_defaults=True):
    """A line of what happens; the last one of an operation says that it is `done`, with `error` where it failed."""

    text: str = ""
    done: bool = False
    error: str = ""


class Operation:
    """Work under way, or over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._told: list[Progress] = []
        self._more = asyncio.Event()

    @property
    def done(self) -> bool:
        return bool(self._told) and self._told[-1].done

    @property
    def last(self) -> str:
        return self._told[-1].text if self._told else "just begun"

    def say(self, text: str) -> None:
        logger.info("%s: %s", self.name, text)
        self._tell(Progress(text))

    def end(self, error: str = "") -> None:
        if error:
            logger.warning("%s failed: %s", self.name, error)
        else:
            logger.info("%s is done", self.name, extra=EVENT)
        self._tell(Progress(done=True, error=error))

    async def follow(self) -> AsyncIterator[Progress]:
        """From the beginning, to the end."""
        position = 0
        while True:
            more = self._more
            while position < len(self._told):
                yield self._told[position]
                position += 1
            if self.done:
                return
            await more.wait()

    def _tell(self, progress: Progress) -> None:
        self._told.append(progress)
        self._more.set()
        self._more = asyncio.Event()


class Operations:
    """`open` lets them begin, `close` ends what is under way."""

    def __init__(self) -> None:
        self.current: Operation | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    def open(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._opened.set()

    async def until_free(self) -> None:
        """Wait until an operation may begin."""
        await self._opened.wait()
        while self.current is not None and not self.current.done:
            async for _ in self.current.follow():
                pass

    async def close(self) -> None:
        self._tasks = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def begin(self, name: str, work: Callable[[Say], Awaitable[None]]) -> Operation:
        """Raises CommandError while another is under way, or the cluster is not up."""
        if self._tasks is None:
            raise CommandError("the cluster is starting or stopping; `wsd status` says when it is up")
        if self.current is not None and not self.current.done:
            raise CommandError(f"{self.current.name} is under way ({self.current.last}); try again when it is over")
        operation = self.current = Operation(name)
        logger.info("%s begins, asked for by %s", name, asked_by.get(), extra=EVENT)
        self._task = self._tasks.create_task(self._do(operation, work), name=name)
        return operation

    async def _do(self, operation: Operation, work: Callable[[Say], Awaitable[None]]) -> None:
        try:
            await work(operation.say)
        except (CommandError, OSError) as exc:
            operation.end(str(exc))
        except asyncio.CancelledError:
            operation.end("the supervisor ends")
            raise
        else:
            operation.end()
