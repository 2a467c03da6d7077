"""What a blocking program receives: messages on their way from the client's thread to the program's."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from wsd.client import records
from wsd.client.asyncio_client import Messages, WsdClient
from wsd.client.callbacks import log_left
from wsd.client.effects import Left, Message
from wsd.client.errors import CLOSED, RequestError
from wsd.client.inbox import Handlers
from wsd.client.records import Position

logger = logging.getLogger("wsd.client")

BATCH = 100
"""The messages that are fetched from the client's thread together."""


class Mailbox:
    """Messages that were fetched, and the functions for them.

    `handle`, `leave`, `fetch` and `put_left` run in the client's thread, `pop` and `was_handled` in the program's.
    """

    def __init__(
        self, on_left: Callable[[Left], object] | None, on_error: Callable[[Exception], object] | None
    ) -> None:
        self.handed: dict[str, Position] = {}  # by channel: the last message that the program was given
        self._on_left = on_left
        self._on_error = on_error
        self._client: WsdClient | None = None
        self._reader: Messages | None = None
        self._handlers: dict[str, Handlers] = {}
        self._fetched: deque[Message] = deque()
        self._fetching = 0  # threads that wait for messages
        self._lock = threading.Lock()  # of what was fetched

    def belong_to(self, client: WsdClient) -> None:
        self._client = client

    # In the client's thread

    def handlers_of(self, channel: str) -> Handlers | None:
        return self._handlers.get(channel)

    def handle(self, channel: str, handlers: Handlers | None) -> None:
        """Set or remove the functions of a channel."""
        self._handlers.pop(channel, None)
        if handlers:
            self._handlers[channel] = handlers
            self._read()

    def leave(self, channel: str) -> None:
        """Drop everything of a channel that the application leaves."""
        self._handlers.pop(channel, None)
        self.handed.pop(channel, None)
        with self._lock:
            self._fetched = deque(one for one in self._fetched if one["channel"] != channel)

    async def fetch(self, timeout: float | None) -> None:
        """Wait for messages. They are moved here, so that none is lost if the program is interrupted.

        Raises TimeoutError, and RequestError once the client has ended.
        """
        if self._fetched:  # by another thread, meanwhile
            return
        reader = self._read()
        self._fetching += 1
        try:
            async with asyncio.timeout(timeout):
                await reader.wait()
                # Other threads that wait already get the rest: they would not see what is moved here.
                batch = reader.take(1 if self._fetching > 1 else BATCH)
        except TimeoutError:
            raise TimeoutError("no message came in time") from None
        except StopAsyncIteration:
            raise RequestError(CLOSED, "closed by the application") from None
        finally:
            self._fetching -= 1
        with self._lock:
            self._fetched += batch

    def put_left(self, left: Left) -> None:
        """Pass the news on behind the messages that came before."""
        handlers = self._handlers.get(left.channel)
        self._read().put({"type": "left", "channel": left.channel, "left": left, "handlers": handlers})

    def _read(self) -> Messages:
        """Have messages kept for the program from now on."""
        if self._reader is None:
            assert self._client is not None
            self._reader = aiter(self._client)
        return self._reader

    # In the thread of the program

    def pop(self) -> Message | None:
        with self._lock:
            return self._fetched.popleft() if self._fetched else None

    def was_handled(self, event: Message) -> bool:
        """Call the function for an event. Return False if there is none."""
        if event["type"] == "left":
            self._left(event["left"], event["handlers"])
            return True
        if event["type"] == "message" and (position := records.position_of(event)):
            self.handed[event["channel"]] = position
        handlers = self._handlers.get(event["channel"])
        handler = handlers.of(event) if handlers is not None else None
        if handler is not None:
            self._call(handler, event)
        return handler is not None

    def _left(self, left: Left, handlers: Handlers | None) -> None:
        if self._handlers.get(left.channel) is handlers:
            self._handlers.pop(left.channel, None)
        if self._on_left is not None:
            self._call(self._on_left, left)
        else:
            log_left(left)

    def _call(self, function: Callable[[Any], object], argument: object) -> None:
        """Call a function of the application. What it raises changes nothing here."""
        try:
            function(argument)
        except Exception as exc:  # noqa: BLE001 - of the application
            try:
                if self._on_error is None:
                    raise
                self._on_error(exc)
            except Exception:
                logger.exception("a function of the application failed")
