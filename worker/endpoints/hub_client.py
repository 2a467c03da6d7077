"""The receiver of one client of the hub: decides how each request is carried out.

A request takes one of three ways:

    received ─► _begin ─┬─► at once: `ping`; a message, if the application need not be asked about it
                        │     messages are on their way to Redis side by side, and keep their order (`_under_way`)
                        ├─► awaited: everything else, in a task of the client's (`_work` > `_answer`)
                        │     it waits for the store, a history, or the application's authorization
                        └─► queued: whatever comes while that task runs (`_waiting`), and then begun in turn
                              if that is too much, nothing more is read from the client

A `ping` without positions is never queued: a client sends it to learn whether its connection still works. All other
requests of a client are carried out in their order. A request that is awaited sees the results of the messages before
it. The plain message, on the first way, needs no task.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from wsd.worker.background.containment import contained, report
from wsd.worker.delivery.handle import LAST_WORDS_SECONDS, WebSocketHandle
from wsd.worker.endpoints.hub_requests import (
    Publishing,
    ask_to_publish,
    carry_out,
    check_rules,
    filtered,
    published_in,
    refresh,
)
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.credentials import Credentials
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, MAX_CHANNEL_LENGTH, user_channel
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.messages import WireError
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

MAX_PING_LENGTH = 512
"""Characters of a ping that is looked for among the requests to be queued. Its id may have half of them."""


class Client:
    """Receives what one client of the hub sends, until its connection ends: a `Receiver`."""

    __slots__ = (
        "_active_at",
        "_asks",
        "_credentials",
        "_end",
        "_handle",
        "_manager",
        "_paused",
        "_result_came",
        "_task",
        "_under_way",
        "_under_way_bytes",
        "_waiting",
        "_waiting_bytes",
        "connection",
    )

    def __init__(
        self,
        manager: DistributedWebSocketManager,
        connection: Connection,
        handle: WebSocketHandle | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`handle`: the one of its WebSocket, None under a server with another protocol than ours.

        `credentials`: None for a client that nothing authenticates.
        """
        self.connection = connection
        self._credentials = credentials
        self._manager = manager
        self._asks = manager.authorize is not None or manager.hooks.on_message is not None  # about each message
        self._handle = handle
        self._active_at = time.monotonic()  # when the client last sent something else than a ping
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[str | bytes] | None = None
        self._waiting_bytes = 0
        self._paused = False
        self._under_way = self._under_way_bytes = 0
        self._result_came: asyncio.Future[None] | None = None  # done when a message is no longer under way
        self._end: tuple[int, str] | None = None  # close code and reason

    def received(self, content: str | bytes) -> None:
        if self._task is not None:
            if _is_bare_ping(content):
                self._begin(content)
            else:
                self._queue(content)
            return
        todo = self._begin(content)
        if todo is not None:
            self._task = asyncio.create_task(self._work(todo))

    def _queue(self, content: str | bytes) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(content)
        self._active_at = time.monotonic()
        self._count_waiting(len(content))
        if self.waits_enough and not self._paused and self._handle is not None:
            self._paused = True
            self._handle.pause_reading()

    def controlled(self) -> bool:
        """Count a ping or a pong as a message, so that a client cannot send any number of them."""
        try:
            self._check_rates(time.monotonic(), b"")
        except WireError:
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
        self._manager.disconnect(self.connection, code, reason)
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
                if self._paused and not self.waits_enough and self._handle is not None:
                    self._paused = False
                    self._handle.resume_reading()
                more = self._begin(content)
                if more is not None:
                    await more
        finally:
            self._task = self._waiting = None
            if self._end is not None:
                self._manager.disconnect(self.connection, *self._end)
                self._answered()

    def _answered(self) -> None:
        if self._end is not None and not self._under_way and self._task is None and self._handle is not None:
            self._handle.answered()

    def _begin(self, content: str | bytes) -> Coroutine[Any, Any, None] | None:
        """Carry out a request, or return the coroutine that must be awaited for it."""
        manager, connection = self._manager, self.connection
        manager.counts.messages_in += 1
        now = time.monotonic()
        if self._handle is None:
            connection.outbox.received_at = now
        request: wire.Request | None = None
        try:
            self._check_rates(now, content)
            request = wire.decode(content)
            if type(request) is wire.Ping:
                if not self._paused:
                    connection.outbox.received_at = self._active_at
                for channel, at in request.positions.items():
                    manager.confirm(connection, channel, at)
                manager.reply(connection, wire.Pong(request.id))
                return None
            self._active_at = now
            if isinstance(request, Publishing):
                if not (
                    type(request) is wire.Publish  # the plain message: one look-up says that nothing speaks against it
                    and len(request.channel) <= MAX_CHANNEL_LENGTH
                    and manager.open_to_publish(request.channel)
                ):
                    check_rules(manager, connection, "publish", published_in(request), request.id)
                full = self._under_way >= MAX_UNDER_WAY or self._under_way_bytes > MAX_UNDER_WAY_BYTES
                if full or self._asks:
                    return self._answer(request)
                self._publish(request, now)
                return None
            return self._answer(request)
        except WireError as exc:
            self._refuse(exc)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)
        return None

    def _failed(self, request: wire.Request | None, exc: Exception) -> None:
        """Answer a request that raised an unexpected exception. The requests after it are carried out."""
        report("a client's request", exc)
        self._refuse(WireError("internal_error", "the server could not do it", request.id if request else None))

    def _refuse(self, exc: WireError) -> None:
        self._manager.reply(self.connection, wire.Error(exc.code, str(exc), exc.request_id))

    async def _answer(self, request: wire.Request) -> None:
        try:
            if isinstance(request, Publishing):
                await self._until_under_way(MAX_UNDER_WAY - 1)
                await ask_to_publish(self._manager, self.connection, request)
                self._publish(await filtered(self._manager, self.connection, request), time.monotonic())
            else:
                await self._until_under_way(0)
                if isinstance(request, wire.Refresh):
                    await refresh(self._manager, self.connection, self._credentials, request)
                else:
                    await carry_out(self._manager, self.connection, request)
        except WireError as exc:
            self._refuse(exc)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)

    async def _until_under_way(self, messages: int) -> None:
        """Wait until no more than `messages` are under way. A request after them then sees what they have done."""
        while self._under_way > messages or self._under_way_bytes > MAX_UNDER_WAY_BYTES:
            self._result_came = asyncio.get_running_loop().create_future()
            await self._result_came

    def _check_rates(self, now: float, content: str | bytes) -> None:
        """Count a message, and check the rates of the client.

        Raises WireError, with the id of the request, for a message above a rate.
        """
        connection, limits = self.connection, self._manager.limits
        if connection.bucket is not None and not connection.bucket.take(now):
            self._exceeded("rate_limited", f"{limits.messages_per_second:g} messages a second", content)
        if connection.byte_bucket is not None and not connection.byte_bucket.take(now, size_of(content)):
            self._exceeded("byte_rate_limited", f"{limits.bytes_per_second:.0f} bytes a second", content)
        connection.refused_in_a_row = 0

    def _exceeded(self, code: wire.ErrorCode, rate: str, content: str | bytes) -> NoReturn:
        """Refuse a message. Close a client that goes on regardless of the answers. Raises WireError."""
        connection, manager = self.connection, self._manager
        manager.counts.refusals[code] += 1
        if not connection.refused_in_a_row:
            connection.outbox.note("refused", f"more than {rate}")
        connection.refused_in_a_row += 1
        if connection.refused_in_a_row > manager.limits.message_burst:
            connection.close(CloseCode.TOO_MANY, "too many messages")
        raise WireError(code, f"not more than {rate}", wire.request_id(content))

    def _publish(self, request: Publishing, now: float) -> None:
        """Send a message on its way. The client gets its answer when the result comes. `now`: by the monotonic clock.

        Raises WireError for data that may not be published.
        """
        manager, connection, request_id = self._manager, self.connection, request.id
        match request:
            case wire.Broadcast():
                channel = BROADCAST
            case wire.Publish():
                channel = request.channel
            case wire.Direct():
                wire.check_user(request.user_id, request_id)
                channel = user_channel(request.user_id)
        data = manager.payload_filter(request.data, request_id)
        if connection.byte_bucket is not None and manager.options(channel).history_size:
            connection.charge_for_history(channel, now)
        size = len(bytes(data))
        self._count_under_way(1, size)

        def on_result(done: Published | NotStoredError) -> None:
            self._count_under_way(-1, -size)
            if self._result_came is not None and not self._result_came.done():
                self._result_came.set_result(None)
            if isinstance(done, NotStoredError):
                self._refuse(WireError("not_stored", str(done), request_id))
            elif request_id is not None:
                manager.reply(connection, _ack(request_id, done))
            self._answered()

        key, on_stored = request.idempotency_key or "", _second_ack(manager, connection, request_id)
        answer = contained("telling a client of its message", connection.outbox, on_result)
        try:
            manager.publish_soon(channel, data, answer, connection, idempotency_key=key, on_stored=on_stored)
        except Exception:
            self._count_under_way(-1, -size)
            raise

    def _count_under_way(self, messages: int, size: int) -> None:
        self._under_way += messages
        self._under_way_bytes += size
        if abs(size) >= COUNTED_BYTES:
            self.connection.outbox.inbound(size)


def _is_bare_ping(content: str | bytes) -> bool:
    """Return whether a message is a ping that says nothing of what the client has read."""
    mark = '"ping"' if isinstance(content, str) else b'"ping"'
    if len(content) > MAX_PING_LENGTH or mark not in content:  # type: ignore[operator]
        return False
    try:
        request = wire.decode(content)
    except WireError:
        return False  # it is refused in its turn
    return type(request) is wire.Ping and not request.positions


def size_of(content: str | bytes) -> int:
    """Return the bytes of a message, as the client sent it before compression."""
    return len(content) if isinstance(content, bytes) or content.isascii() else len(content.encode())


def _ack(request_id: wire.RequestId, done: Published) -> wire.Ack:
    at = done.position
    return wire.Ack(request_id, at.offset if at else None, at.epoch if at else None, bool(at) if done.kept else None)


def _second_ack(
    manager: DistributedWebSocketManager, connection: Connection, request_id: wire.RequestId
) -> Callable[[Position], None] | None:
    """Return a callback that sends a second ack, once a message that could not be stored at first is stored.

    Return None for a message without an id, which is not answered.
    """
    if request_id is None:
        return None

    def stored(at: Position) -> None:
        manager.reply(connection, wire.Ack(request_id, at.offset, at.epoch, durable=True))

    return contained("telling a client of its message", connection.outbox, stored)
