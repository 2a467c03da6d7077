"""The one lifespan of an application that several workers on an event loop serve."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message

from wsd.worker.errors import WorkerError
from wsd.worker.process_workers import choose_worker
from wsd.worker.server.lifespan import Lifespan, startup_failure_line
from wsd.worker.worker import Worker


class StartupFailedError(WorkerError):
    """The application reported in its lifespan that it cannot start."""


class SharedLifespan:
    """The lifespan of an application. `state` is what the application yields in it."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self, worker: Worker) -> None:
        """Run the startup of the application. `worker`: the one that it talks to in its lifespan.

        Raises StartupFailedError, and what an application raises that does not report its failure.
        """
        answers: asyncio.Queue[Message] = asyncio.Queue()

        async def nothing() -> None:
            pass

        async def run() -> None:
            choose_worker(worker)
            scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
            lifespan = Lifespan(self._app, on_started=lambda: None, on_stopped=nothing)
            await lifespan.run(scope, self._events.get, answers.put)

        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.create_task(run())
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait([self._task, answer], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            lifespan, self._task = self._task, None
            lifespan.result()
        elif answer.result()["type"] == "lifespan.startup.failed":
            [cause] = await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            reason = startup_failure_line(answer.result().get("message", ""))
            raise StartupFailedError(f"the application failed to start: {reason}") from cause

    async def stop(self) -> None:
        """Run the shutdown of the application, if it has started. Raises what the application raises."""
        if self._task is not None:
            self._events.put_nowait({"type": "lifespan.shutdown"})
            await self._task
