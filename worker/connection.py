"""One client of this worker: what waits to be sent to it, and the handle that its application holds."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wsd.worker import wire
from wsd.worker.history import Position
from wsd.worker.limits import TokenBucket

MAX_QUEUED_MESSAGES = 1000
"""A client that has this many messages waiting reads too slowly and is closed with 1013."""

MESSAGES_A_TURN = 20
"""Of those that a client missed."""

SLOW_READER = "slow_reader"
"""Why a client is told of a gap that only it has."""

SendText = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class ConnectionLimits:
    """0 means no limit; times in seconds."""

    per_user: int = 0  # connections on all workers
    messages_per_second: float = 0.0  # from one connection
    message_burst: float = 0.0
    idle_timeout: float = 0.0  # for a client that says nothing; pongs do not count

    def bucket(self) -> TokenBucket | None:
        if not self.messages_per_second:
            return None
        return TokenBucket(self.messages_per_second, max(1.0, self.message_burst), time.monotonic())


class Turns:
    """Work that many want to do at once gets a turn of the event loop each, so that nobody else waits for all of it."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __call__(self) -> "asyncio.Future[None]":
        """Await it before each piece of the work."""
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


class Droppable:
    """A message of a channel that does not wait for slow readers for ever. Without a text it has been dropped."""

    __slots__ = ("channel", "position", "text")

    def __init__(self, channel: str, position: Position, text: str) -> None:
        self.channel = channel
        self.position = position
        self.text: str | None = text


class Outbox:
    """What waits to be sent to one client, so that a slow reader never holds up the others.

    `closing` gets the close code and reason once the server wants the connection to end.
    """

    __slots__ = (
        "_latest",
        "_queue",
        "_turns",
        "_wake",
        "channels",
        "closing",
        "dropped",
        "heard_at",
        "session_id",
        "user_id",
        "username",
    )

    def __init__(self, session_id: str, user_id: str, username: str, turns: Turns) -> None:
        """`turns`: of this worker, for those who get much at once."""
        self._turns = turns
        self.session_id = session_id
        self.user_id = user_id
        self.username = username
        self.channels: set[str] = set()
        self.dropped = 0  # messages that it was too slow for
        self.heard_at = time.monotonic()  # when it last said anything
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._queue: deque[str | list[str] | Droppable] = deque()
        self._latest: dict[str, Droppable] = {}
        self._wake = asyncio.Event()

    def send(self, text: str) -> None:
        if len(self._queue) >= MAX_QUEUED_MESSAGES:
            self.close(1013, "reading too slowly")
            return
        self._queue.append(text)
        self._wake.set()

    def send_latest(self, channel: str, position: Position, text: str) -> None:
        """Instead of an earlier one of the channel, if that still waits."""
        waiting = self._latest.get(channel)
        if waiting is not None:
            waiting.position, waiting.text = position, text
            return
        self._latest[channel] = waiting = Droppable(channel, position, text)
        self._queue.append(waiting)
        self._wake.set()

    def send_droppable(self, channel: str, position: Position, text: str) -> None:
        """Where too much waits, the channel's oldest goes, and the client is told where it would have been."""
        if len(self._queue) >= MAX_QUEUED_MESSAGES and not self._drop_oldest(channel):
            self.close(1013, "reading too slowly")
            return
        self._queue.append(Droppable(channel, position, text))
        self._wake.set()

    def _drop_oldest(self, channel: str) -> bool:
        """Leaves one notice before the rest of the channel, however many go."""
        gap = None
        for index, waiting in enumerate(self._queue):
            if not isinstance(waiting, Droppable) or waiting.channel != channel:
                continue
            if gap is None:
                gap = waiting
                if waiting.text is not None:
                    waiting.text = None
                    self.dropped += 1
                    return True
            else:
                gap.position = waiting.position
                del self._queue[index]
                self.dropped += 1
                return True
        return False

    def send_all(self, texts: list[str]) -> None:
        """What a client missed; however many, they wait as one."""
        if texts:
            self._queue.append(texts)
            self._wake.set()

    def send_first(self, text: str) -> None:
        """Before all that waits."""
        self._queue.appendleft(text)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        if not self.closing.done():
            self.closing.set_result((code, reason))

    async def pump(self, send_text: SendText) -> None:
        """Send what is queued, in order, until cancelled or `send_text` raises."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                waiting = self._queue.popleft()
                if isinstance(waiting, list):
                    for start in range(0, len(waiting), MESSAGES_A_TURN):
                        await self._turns()
                        for text in waiting[start : start + MESSAGES_A_TURN]:
                            await send_text(text)
                else:
                    await send_text(waiting if isinstance(waiting, str) else self._text(waiting))

    def _text(self, waiting: Droppable) -> str:
        if self._latest.get(waiting.channel) is waiting:
            del self._latest[waiting.channel]
        if waiting.text is not None:
            return waiting.text
        at = waiting.position
        return wire.encode(wire.Gap(waiting.channel, SLOW_READER, at.offset, at.epoch)).decode()


class Connection:
    """A connected client, for as long as its application holds this.

    The manager keeps only the outbox: an application that forgets a connection without a `disconnect` (an endpoint that
    raised, say) has it ended when the handle is collected.
    """

    __slots__ = ("__weakref__", "_on_forgotten", "bucket", "outbox", "refused_in_a_row", "resumed")

    def __init__(
        self,
        outbox: Outbox,
        bucket: TokenBucket | None,
        on_forgotten: Callable[[Outbox], None],
        *,
        resumed: bool = False,
    ) -> None:
        """`bucket`: how many messages it may send; `on_forgotten` is called on the event loop's thread."""
        self.outbox = outbox
        self.resumed = resumed  # it goes on with the session of an earlier connection
        self.bucket = bucket
        self.refused_in_a_row = 0  # messages over the rate
        self._on_forgotten = on_forgotten

    def __del__(self) -> None:
        self._on_forgotten(self.outbox)

    @property
    def session_id(self) -> str:
        return self.outbox.session_id

    @property
    def user_id(self) -> str:
        return self.outbox.user_id

    @property
    def username(self) -> str:
        return self.outbox.username

    @property
    def channels(self) -> set[str]:
        return self.outbox.channels

    @property
    def closing(self) -> asyncio.Future[tuple[int, str]]:
        return self.outbox.closing

    def send(self, text: str) -> None:
        """Queue a text for this client; one that reads too slowly is closed with 1013."""
        self.outbox.send(text)

    def close(self, code: int, reason: str) -> None:
        self.outbox.close(code, reason)

    async def pump(self, send_text: SendText) -> None:
        """Send what is queued, in order, until cancelled or `send_text` raises."""
        await self.outbox.pump(send_text)
