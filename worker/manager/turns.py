"""Fair turns of the event loop for work that many clients ask for at once."""

import asyncio
from collections import deque


class Turns:
    """A queue in which each piece of work gets an iteration of the event loop of its own.

    When thousands of clients connect at once, the clients that are connected already are served in between.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __call__(self) -> "asyncio.Future[None]":
        """Return a future to await before each piece of work."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._next)
        return turn

    def _next(self) -> None:
        turn = self._waiting.popleft()
        if not turn.done():
            turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)
