"""Questions to all workers over the broker, and the answers to them. So nothing has to be kept up to date in Redis."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

ANSWER_SECONDS = 1.0
"""How long answers are waited for."""

T = TypeVar("T")


class Questions(Generic[T]):
    """The questions of this worker that are open. `add_answer` must be called with every answer that comes."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Queue[T]] = {}

    async def ask(self, send: Callable[[str], Awaitable[object]], enough: Callable[[list[T]], bool]) -> list[T]:
        """Ask a question, and return the answers that came until there were `enough`, or the time was over.

        `send` is called with the id of the question, and sends it.
        """
        question = secrets.token_hex(8)
        answers = self._open[question] = asyncio.Queue()
        found: list[T] = []
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await send(question)
                    while not enough(found):
                        found.append(await answers.get())
        finally:
            del self._open[question]
        return found

    def add_answer(self, question: str, answer: T) -> None:
        if (answers := self._open.get(question)) is not None:
            answers.put_nowait(answer)
