"""One client of this worker: the handle that its application holds."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from wsd.worker.delivery.outbox import Outbox, SendText
from wsd.worker.security.limits import TokenBucket

NEW_HISTORY_BYTES = 4096
"""What Redis allocates for the first message of a history, however small it is."""

MAX_WRITTEN = 32
"""Channels remembered of one connection. One that publishes in more of them in turn pays for each as for a new one."""


@dataclass(frozen=True)
class ConnectionLimits:
    """0 means no limit; times in seconds."""

    per_user: int = 0  # connections on all workers
    messages_per_second: float = 0.0  # from one connection
    message_burst: float = 0.0
    bytes_per_second: float = 0.0  # of messages from one connection
    byte_burst: float = 0.0
    idle_timeout: float = 0.0  # for a client that says nothing; pongs do not count

    def bucket(self) -> TokenBucket | None:
        if not self.messages_per_second:
            return None
        return TokenBucket(self.messages_per_second, max(1.0, self.message_burst), time.monotonic())

    def byte_bucket(self) -> TokenBucket | None:
        if not self.bytes_per_second:
            return None
        return TokenBucket(self.bytes_per_second, max(1.0, self.byte_burst), time.monotonic())


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


class Connection:
    """A connected client, for as long as its application holds this.

    The manager keeps only the outbox: an application that forgets a connection without a `disconnect` (an endpoint that
    raised, say) has it ended when the handle is collected.
    """

    __slots__ = (
        "__weakref__",
        "_on_forgotten",
        "_written",
        "bucket",
        "byte_bucket",
        "outbox",
        "refused_in_a_row",
        "resumed",
    )

    def __init__(
        self,
        outbox: Outbox,
        bucket: TokenBucket | None,
        on_forgotten: Callable[[Outbox], None],
        *,
        byte_bucket: TokenBucket | None = None,
        resumed: bool = False,
    ) -> None:
        """The buckets: how many messages and bytes it may send; `on_forgotten` is called on the event loop's thread."""
        self.outbox = outbox
        self.resumed = resumed  # it goes on with the session of an earlier connection
        self.bucket = bucket
        self.byte_bucket = byte_bucket
        self.refused_in_a_row = 0  # messages over one of the rates
        self._written: dict[str, None] = {}  # the channels that it published in lately, the oldest first
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

    def writes(self, channel: str, now: float) -> None:
        """Count the room that Redis needs for a history, unless the client has published in the channel lately."""
        if self.byte_bucket is None:
            return
        if channel not in self._written:
            self.byte_bucket.owe(now, NEW_HISTORY_BYTES)
            if len(self._written) >= MAX_WRITTEN:
                del self._written[next(iter(self._written))]
        else:
            del self._written[channel]
        self._written[channel] = None

    def send(self, text: str) -> None:
        """Queue a text for this client; one that reads too slowly is closed with 1013."""
        self.outbox.send(text.encode())

    def close(self, code: int, reason: str) -> None:
        """End the connection with a close frame; a second time means nothing.

        Raises ValueError or TypeError for a code or a reason that no close frame can carry.
        """
        self.outbox.close(code, reason)

    async def pump(self, send_text: SendText) -> None:
        """Send what is queued, in order, until the server wants the connection to end, or `send_text` raises.

        Under a server without our protocol, who calls it closes the WebSocket then: `closing` has code and reason.
        """
        await self.outbox.pump(send_text)
