"""Questions to other workers over the broker, and their answers: nothing is kept up to date in Redis for them."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

ANSWER_SECONDS = 1.0

T = TypeVar("T")


class Questions(Generic[T]):
    """`add_answer` is to be called with every answer that comes."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Queue[T]] = {}

    async def ask(self, send: Callable[[str], Awaitable[object]], enough: Callable[[list[T]], bool]) -> list[T]:
        """`send` sends the question, which is named by what it gets. The answers until there are `enough`, or time is
        over."""
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
