"""Operations on a running cluster: one at a time, with progress that several clients can follow."""

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
    """A line of progress. The last line of an operation is `done`, and has an `error` if the operation failed."""

    text: str = ""
    done: bool = False
    error: str = ""


class Operation:
    """An operation under way, or one that is over."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines: list[Progress] = []
        self._more = asyncio.Event()

    @property
    def done(self) -> bool:
        return bool(self._lines) and self._lines[-1].done

    @property
    def last(self) -> str:
        return self._lines[-1].text if self._lines else "just begun"

    def say(self, text: str) -> None:
        logger.info("%s: %s", self.name, text)
        self._add(Progress(text))

    def end(self, error: str = "") -> None:
        if error:
            logger.warning("%s failed: %s", self.name, error)
        else:
            logger.info("%s is done", self.name, extra=EVENT)
        self._add(Progress(done=True, error=error))

    async def follow(self) -> AsyncIterator[Progress]:
        """Yield all lines of progress, from the first on, until the operation is over."""
        position = 0
        while True:
            more = self._more
            while position < len(self._lines):
                yield self._lines[position]
                position += 1
            if self.done:
                return
            await more.wait()

    def _add(self, progress: Progress) -> None:
        self._lines.append(progress)
        self._more.set()
        self._more = asyncio.Event()


class Operations:
    """The operations of a cluster, of which one may be under way. They may begin between `open` and `close`."""

    def __init__(self) -> None:
        self.current: Operation | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """Let operations begin from now on, as tasks of this group."""
        self._tasks = tasks
        self._opened.set()

    async def until_free(self) -> None:
        """Wait until an operation may begin."""
        await self._opened.wait()
        while self.current is not None and not self.current.done:
            async for _ in self.current.follow():
                pass

    async def close(self) -> None:
        """Let no operation begin any more, and cancel the one under way. Returns once it has ended."""
        self._tasks = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def begin(self, name: str, work: Callable[[Say], Awaitable[None]]) -> Operation:
        """Begin an operation that does `work`.

        Raises CommandError while another operation is under way, or the cluster is not up.
        """
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
            operation.end("the supervisor is ending")
            raise
        else:
            operation.end()
