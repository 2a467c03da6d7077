"""The lifespan of an application that may not support lifespan events, like uvicorn's lifespan "auto"."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsd.worker.logs import get_logger

logger = get_logger(__name__)

TRACEBACK = "Traceback (most recent call last):"


class Lifespan:
    """One lifespan of an application. The server always gets an answer to both of its events.

    An application that returns or raises early is still served. An application that reports a failed startup is not.
    """

    def __init__(
        self, app: ASGIApp, *, on_started: Callable[[], None], on_stopped: Callable[[], Awaitable[None]]
    ) -> None:
        """`on_started` is called before the server is told that the startup is complete.

        `on_stopped` is awaited before the server is told that the startup failed or that the shutdown is complete.
        """
        self._app = app
        self._on_started = on_started
        self._on_stopped = on_stopped
        self.startup_failure: str | None = None  # the application's message
        self._receive: Receive
        self._send: Send
        self._startup_asked = self._startup_answered = False
        self._shutdown_asked = self._shutdown_answered = False
        self._early_answer: Message | None = None  # to a shutdown that the server has not begun yet

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application.

        Raises what the application raised if its startup failed or its shutdown had begun.
        """
        self._receive, self._send = receive, send
        try:
            await self._app(scope, self._ask, self._answer)
        except (Exception, asyncio.CancelledError) as exc:
            task = asyncio.current_task()
            if isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if self.startup_failure is not None:
                raise
            if self._shutdown_asked:
                await self._finish()
                raise
            self._note(exc)
        except BaseException as exc:  # such as sys.exit() in its startup
            if not self._startup_answered:
                self.startup_failure = repr(exc)
            raise
        if self.startup_failure is None:
            await self._finish()

    async def _ask(self) -> Message:
        message = await self._receive()
        self._startup_asked = True
        if message["type"] == "lifespan.shutdown":
            self._shutdown_asked = True
        return message

    async def _answer(self, message: Message) -> None:
        kind = message["type"]
        if kind.startswith("lifespan.shutdown.") and not self._shutdown_asked:
            self._early_answer = message
            return
        if kind == "lifespan.startup.complete" and not self._startup_answered:
            self._startup_answered = True
            self._on_started()
        elif kind == "lifespan.startup.failed" and not self._startup_answered:
            self._startup_answered = True
            self.startup_failure = message.get("message", "").strip() or "no reason given"
            await self._on_stopped()
        elif kind.startswith("lifespan.shutdown.") and not self._shutdown_answered:
            self._shutdown_answered = True
            await self._on_stopped()
        await self._send(message)  # the server refuses unknown messages and second answers

    def _note(self, exc: BaseException) -> None:
        if not self._startup_asked:
            logger.debug("the application does not know lifespan events: %r", exc)
        elif not self._startup_answered:
            logger.warning("the application raised in its startup, and is served all the same", exc_info=exc)
        else:
            logger.warning("the application's lifespan ended early, it is served all the same", exc_info=exc)

    async def _finish(self) -> None:
        """Answer the server in place of an application that has returned or raised."""
        if not self._startup_answered:
            if not self._startup_asked:
                await self._ask()
            await self._answer({"type": "lifespan.startup.complete"})
        while not self._shutdown_asked:
            await self._ask()
        if not self._shutdown_answered:
            await self._answer(self._early_answer or {"type": "lifespan.shutdown.complete"})


def startup_failure_line(message: str) -> str:
    """Return the line of an application's message that says why it failed.

    In a traceback it is the line that names the exception, which may have more lines. Otherwise it is the last line.
    """
    lines = message.strip().splitlines() or ["no reason given"]
    if TRACEBACK in lines:
        last = len(lines) - lines[::-1].index(TRACEBACK)
        return next((line for line in lines[last:] if not line.startswith(" ")), lines[-1])
    return lines[-1]
