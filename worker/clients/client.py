"""The receiver of one client, in whatever dialect: decides when each request is carried out.

A request takes one of three ways:

    received ─► begin ─┬─► at once: a ping; a message, if the application need not be asked about it
                       │     messages are on their way to Redis side by side, and keep their order (`_under_way`)
                       ├─► awaited: everything else, in a task of the client's (`_work`)
                       │     it waits for the store, a history, or the application's authorization
                       └─► queued: whatever comes while that task runs (`_waiting`), and then begun in turn
                             if that is too much, nothing more is read from the client

What is urgent is never queued: a client sends it to learn whether its connection still works. All other requests of a
client are carried out in their order. A request that is awaited sees the results of the messages before it. The plain
message, on the first way, needs no task.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, NoReturn

from wsd.worker.background.containment import contained
from wsd.worker.clients.operations import Publication
from wsd.worker.delivery.handle import LAST_WORDS_SECONDS, WebSocketHandle
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.messages import ErrorCode, RequestError
from wsd.worker.wire.position import Position

MAX_UNDER_WAY = 128
"""Messages of one client that may be on their way, without an answer from Redis."""

MAX_UNDER_WAY_BYTES = 524_288
"""Bytes of these messages: they must not gather here while Redis is slow."""

COUNTED_BYTES = 2048
"""Smaller messages that are under way are not counted as memory held for the client.

Counting one costs as much as publishing it, and all of them together are less than MAX_UNDER_WAY_BYTES.
"""

MAX_WAITING = 128
MAX_WAITING_BYTES = 65_536
"""Queued requests, and their bytes, from which on nothing more is read from the client.

A client that comes back may subscribe to all its channels at once, while Redis is away. Its pings must be read then.
"""


class Client(ABC):
    """Receives what one client sends, until its connection ends: a `Receiver`. A subclass knows the format."""

    __slots__ = (
        "_active_at",
        "_asks",
        "_end",
        "_handle",
        "_result_came",
        "_task",
        "_under_way",
        "_under_way_bytes",
        "_waiting",
        "_waiting_bytes",
        "connection",
        "manager",
        "paused",
    )

    def __init__(
        self,
        manager: DistributedWebSocketManager,
        connection: Connection,
        handle: WebSocketHandle | None = None,
    ) -> None:
        """`handle`: the one of its WebSocket, None under a server with another protocol than ours."""
        self.connection = connection
        self.manager = manager
        self.paused = False  # nothing more is read from the client for now
        self._asks = manager.authorize is not None or manager.hooks.on_message is not None  # about each message
        self._handle = handle
        self._active_at = time.monotonic()  # when the client last sent something else than a ping
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[str | bytes] | None = None
        self._waiting_bytes = 0
        self._under_way = self._under_way_bytes = 0
        self._result_came: asyncio.Future[None] | None = None  # done when a message is no longer under way
        self._end: tuple[int, str] | None = None  # close code and reason

    # What a format decides

    @abstractmethod
    def begin(self, content: str | bytes) -> Coroutine[Any, Any, None] | None:
        """Carry out what a WebSocket message asks for, or return the coroutine that must be awaited for it.

        Neither raises: what is not carried out is answered.
        """

    @abstractmethod
    def is_urgent(self, content: str | bytes) -> bool:
        """Return whether a WebSocket message is begun at once, whatever waits: a ping, which needs no coroutine."""

    @abstractmethod
    def answer_published(self, request: Any, done: Published | NotStoredError) -> None:
        """Answer a request to publish, once it is known what became of the message. `request`: as for `publish`."""

    @abstractmethod
    def answer_stored(self, request: Any, at: Position) -> None:
        """Tell the client that a message is stored that could not be stored when `answer_published` was called."""

    # Receiving

    def received(self, content: str | bytes) -> None:
        if self._task is not None:
            if self.is_urgent(content):
                self.begin(content)
            else:
                self._queue(content)
            return
        todo = self.begin(content)
        if todo is not None:
            self._task = asyncio.create_task(self._work(todo))

    def receive_first(self, todo: Coroutine[Any, Any, None] | None) -> None:
        """Await what the client has asked for while it was being connected. To be called before `received`."""
        if todo is not None:
            self._task = asyncio.create_task(self._work(todo))

    def _queue(self, content: str | bytes) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(content)
        self._active_at = time.monotonic()
        self._count_waiting(len(content))
        if self.waits_enough and not self.paused and self._handle is not None:
            self.paused = True
            self._handle.pause_reading()

    def controlled(self) -> bool:
        """Count a ping or a pong as a message, so that a client cannot send any number of them."""
        try:
            self.check_rates(time.monotonic(), b"")
        except RequestError:
            return False
        return True

    @property
    def waits_enough(self) -> bool:
        """True if so much is queued that nothing more should be read from the client for now."""
        waiting = len(self._waiting) if self._waiting else 0
        return waiting >= MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES

    def _count_waiting(self, size: int) -> None:
        self._waiting_bytes += size
        self.connection.outbox.inbound(size)

    def ended(self, code: int, reason: str) -> bool:
        self._end = code, reason
        if self._task is not None:
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, self._task.cancel)
            return False
        self.manager.disconnect(self.connection, code, reason)
        return not self._under_way

    async def until_idle(self) -> None:
        """Wait until no request is awaited, and none is queued."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self, todo: Coroutine[Any, Any, None]) -> None:
        """Carry out a request that must be awaited, and then those that were queued meanwhile."""
        try:
            await todo
            while self._waiting:
                content = self._waiting.popleft()
                self._count_waiting(-len(content))
                if self.paused and not self.waits_enough and self._handle is not None:
                    self.paused = False
                    self._handle.resume_reading()
                more = self.begin(content)
                if more is not None:
                    await more
        finally:
            self._task = self._waiting = None
            if self._end is not None:
                self.manager.disconnect(self.connection, *self._end)
                self._answered()

    def _answered(self) -> None:
        if self._end is not None and not self._under_way and self._task is None and self._handle is not None:
            self._handle.answered()

    # Counting, for `begin`

    def count_message(self) -> float:
        """Count a message of the client. Return the time, by the monotonic clock."""
        self.manager.counts.messages_in += 1
        now = time.monotonic()
        if self._handle is None:
            self.connection.outbox.received_at = now
        return now

    def note_active(self, now: float) -> None:
        """Note that the client has sent something else than a ping."""
        self._active_at = now

    def note_ping(self) -> None:
        """Note that the client has sent a ping, which keeps no client from being idle."""
        if not self.paused:
            self.connection.outbox.received_at = self._active_at

    def check_rates(self, now: float, content: str | bytes) -> None:
        """Count a request, and check the rates of the client.

        Raises RequestError above a rate.
        """
        connection, limits = self.connection, self.manager.limits
        if connection.bucket is not None and not connection.bucket.take(now):
            self._exceeded("rate_limited", f"{limits.messages_per_second:g} messages a second")
        if connection.byte_bucket is not None and not connection.byte_bucket.take(now, size_of(content)):
            self._exceeded("byte_rate_limited", f"{limits.bytes_per_second:.0f} bytes a second")
        connection.refused_in_a_row = 0

    def _exceeded(self, code: ErrorCode, rate: str) -> NoReturn:
        """Refuse a request. Close a client that goes on regardless of the answers. Raises RequestError."""
        connection, manager = self.connection, self.manager
        manager.counts.refusals[code] += 1
        if not connection.refused_in_a_row:
            connection.outbox.note("refused", f"more than {rate}")
        connection.refused_in_a_row += 1
        if connection.refused_in_a_row > manager.limits.message_burst:
            connection.close(CloseCode.TOO_MANY, "too many messages")
        raise RequestError(code, f"not more than {rate}")

    # Publishing, for `begin`

    @property
    def must_wait(self) -> bool:
        """True if the next message cannot be published at once.

        Too many are under way, or the application must be asked.
        """
        return self._asks or self._under_way >= MAX_UNDER_WAY or self._under_way_bytes > MAX_UNDER_WAY_BYTES

    def publish(
        self,
        publication: Publication,
        now: float,
        request: Any = None,
        *,
        tells_stored: bool = False,
    ) -> None:
        """Send a message on its way. Its rules must have been checked. `now`: by the monotonic clock.

        `request`: what `answer_published` is called with, such as an id. `tells_stored`: whether `answer_stored` is
        called, too.

        Raises RequestError for data that may not be published. `answer_published` is not called then.
        """
        manager, connection = self.manager, self.connection
        channel = publication.channel or publication.target
        data = manager.payload_filter(publication.data)
        if connection.byte_bucket is not None and manager.options(channel).history_size:
            connection.charge_for_history(channel, now)
        size = len(bytes(data))
        self._count_under_way(1, size)

        def done(result: Published | NotStoredError) -> None:
            self._count_under_way(-1, -size)
            if self._result_came is not None and not self._result_came.done():
                self._result_came.set_result(None)
            self.answer_published(request, result)
            self._answered()

        answer = contained("telling a client of its message", connection.outbox, done)
        key, on_stored = publication.idempotency_key, None
        if tells_stored:
            tell = partial(self.answer_stored, request)
            on_stored = contained("telling a client of its message", connection.outbox, tell)
        try:
            manager.publish_soon(channel, data, answer, connection, idempotency_key=key, on_stored=on_stored)
        except Exception:
            self._count_under_way(-1, -size)
            raise

    async def until_under_way(self, messages: int) -> None:
        """Wait until no more than `messages` are under way. A request after them then sees what they have done."""
        while self._under_way > messages or self._under_way_bytes > MAX_UNDER_WAY_BYTES:
            self._result_came = asyncio.get_running_loop().create_future()
            await self._result_came

    def _count_under_way(self, messages: int, size: int) -> None:
        self._under_way += messages
        self._under_way_bytes += size
        if abs(size) >= COUNTED_BYTES:
            self.connection.outbox.inbound(size)


def size_of(content: str | bytes) -> int:
    """Return the bytes of a message, as the client sent it before compression."""
    return len(content) if isinstance(content, bytes) or content.isascii() else len(content.encode())
