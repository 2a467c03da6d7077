"""Carries out what a client of the hub asks for, and answers it.

What needs no waiting is done at once, without a task; messages are on their way side by side, and keep their order.
Whatever waits (for the store, a history, an application's authorization) holds up what the same client says after it.
What has a large answer waits until the client has taken what it was sent before.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import msgspec

from wsd.worker.broker.message_broker import HISTORY_UNAVAILABLE
from wsd.worker.channels.joining import Joined
from wsd.worker.containment import contained, report
from wsd.worker.contract.redis_keys import BROADCAST, DIRECT, user_channel
from wsd.worker.delivery.handle import WebSocketHandle
from wsd.worker.errors import NotStoredError, RedisUnavailableError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.membership import MAX_CHANNELS, ChannelFullError
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.authentication import Identity
from wsd.worker.security.authorization import Action, is_allowed
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.messages import WireError
from wsd.worker.wire.position import Position

MAX_UNDER_WAY = 128
"""Messages of one client that Redis has not answered yet."""

MAX_UNDER_WAY_BYTES = 524_288
"""Their bytes: what Redis takes slowly must not gather here."""

COUNTED_BYTES = 2048
"""Smaller messages that are under way are not counted as held by the worker: to count costs as much as to publish, and
all of them together are less than MAX_UNDER_WAY_BYTES."""

MAX_WAITING = 16
MAX_WAITING_BYTES = 65_536
"""Requests that wait, before nothing more is read from the client."""

LAST_WORDS_SECONDS = 1.0
"""How long what a client asked for goes on after its connection has ended."""

Publishing = wire.Broadcast | wire.Publish | wire.Direct


class Client:
    """The receiver of what one client of the hub says, until it ends."""

    __slots__ = (
        "_end",
        "_handle",
        "_manager",
        "_paused",
        "_task",
        "_told",
        "_under_way",
        "_under_way_bytes",
        "_waiting",
        "_waiting_bytes",
        "connection",
    )

    def __init__(
        self, manager: DistributedWebSocketManager, connection: Connection, handle: WebSocketHandle | None = None
    ) -> None:
        """`handle`: of the WebSocket, to slow it down."""
        self.connection = connection
        self._manager = manager
        self._handle = handle
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[str | bytes] | None = None
        self._waiting_bytes = 0
        self._paused = False
        self._under_way = self._under_way_bytes = 0
        self._told: asyncio.Future[None] | None = None
        self._end: tuple[int, str] | None = None  # close code and reason

    @property
    def busy(self) -> bool:
        return self._task is not None

    def received(self, content: str | bytes) -> None:
        if self._task is not None:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(content)
            self._count_waiting(len(content))
            if self._waits_enough and not self._paused and self._handle is not None:
                self._paused = True
                self._handle.pause_reading()
            return
        todo = self._begin(content)
        if todo is not None:
            self._task = asyncio.create_task(self._work(todo))

    def controlled(self) -> bool:
        """Count a ping or a pong as a message: one that is too many is not answered, and ends like those."""
        try:
            self._check_rates(time.monotonic(), b"")
        except WireError:
            return False
        return True

    @property
    def _waits_enough(self) -> bool:
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
        """Wait until nothing waits."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _work(self, todo: Coroutine[Any, Any, None]) -> None:
        """What cannot be done at once, and all that comes meanwhile."""
        try:
            await todo
            while self._waiting:
                content = self._waiting.popleft()
                self._count_waiting(-len(content))
                if self._paused and not self._waits_enough and self._handle is not None:
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
        """Carry out one message; what there is to wait for is returned."""
        manager, connection = self._manager, self.connection
        manager.counts.messages_in += 1
        now = time.monotonic()
        if self._handle is None:
            connection.outbox.heard_at = now
        request: wire.Request | None = None
        try:
            self._check_rates(now, content)
            request = wire.decode(content)
            if type(request) is wire.Ping:
                for channel, at in request.positions.items():
                    manager.confirm(connection, channel, at)
                manager.reply(connection, wire.Pong(request.id))
                return None
            if isinstance(request, Publishing):
                if type(request) is wire.Publish:
                    wire.check_channel(request.channel, request.id)
                full = self._under_way >= MAX_UNDER_WAY or self._under_way_bytes > MAX_UNDER_WAY_BYTES
                if full or manager.authorize is not None:
                    return self._answer(request)
                self._publish(request)
                return None
            return self._answer(request)
        except WireError as exc:
            self._refuse(exc)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)
        return None

    def _failed(self, request: wire.Request | None, exc: Exception) -> None:
        """Answer a request that raised what nobody expected. What the client asked after it is carried out."""
        report("a client's request", exc)
        self._refuse(WireError("internal_error", "the server could not do it", request.id if request else None))

    def _refuse(self, exc: WireError) -> None:
        self._manager.reply(self.connection, wire.Error(exc.code, str(exc), exc.request_id))

    async def _answer(self, request: wire.Request) -> None:
        try:
            await self._until_told(MAX_UNDER_WAY - 1 if isinstance(request, Publishing) else 0)
            await self._carry_out(request)
        except WireError as exc:
            self._refuse(exc)
        except Exception as exc:  # noqa: BLE001 - of whatever kind
            self._failed(request, exc)

    async def _until_told(self, left: int) -> None:
        """Wait until so many messages are under way: what is asked after a message sees what became of it."""
        while self._under_way > left or self._under_way_bytes > MAX_UNDER_WAY_BYTES:
            self._told = asyncio.get_running_loop().create_future()
            await self._told

    def _check_rates(self, now: float, content: str | bytes) -> None:
        """Count a message. A client that goes on regardless of the answers is closed.

        Raises WireError, with the id of the request, for a message above a rate.
        """
        connection, limits = self.connection, self._manager.limits
        if connection.bucket is not None and not connection.bucket.take(now):
            self._exceeded("rate_limited", f"{limits.messages_per_second:g} messages a second", content)
        if connection.byte_bucket is not None and not connection.byte_bucket.take(now, _size(content)):
            self._exceeded("byte_rate_limited", f"{limits.bytes_per_second:.0f} bytes a second", content)
        connection.refused_in_a_row = 0

    def _exceeded(self, code: str, rate: str, content: str | bytes) -> NoReturn:
        """Raises WireError."""
        connection, manager = self.connection, self._manager
        manager.counts.refusals[code] += 1
        if not connection.refused_in_a_row:
            connection.outbox.note("refused", f"more than {rate}")
        connection.refused_in_a_row += 1
        if connection.refused_in_a_row > manager.limits.message_burst:
            connection.close(CloseCode.POLICY, "too many messages")
        raise WireError(code, f"not more than {rate}", wire.request_id(content))

    async def _carry_out(self, request: wire.Request) -> None:
        """Raises WireError."""
        manager, connection = self._manager, self.connection
        match request:
            case wire.Publish(channel=channel, id=request_id):
                await _check_allowed(manager, connection, "publish", channel, request_id)
                self._publish(request)
            case wire.Broadcast(id=request_id):
                await _ask_application(manager, connection, "publish", BROADCAST, request_id)
                self._publish(request)
            case wire.Direct(user_id=user_id, id=request_id):
                wire.check_user(user_id, request_id)
                await _ask_application(manager, connection, "publish", DIRECT, request_id)
                self._publish(request)
            case wire.Subscribe():
                await _subscribe(manager, connection, request)
            case wire.Unsubscribe(channel=channel, id=request_id):
                wire.check_channel(channel, request_id)
                await manager.leave(connection, channel)
                if request_id is not None:
                    manager.reply(connection, wire.Ack(request_id))
            case wire.Presence(channel=channel, id=request_id):
                await connection.outbox.until_drained()
                await _check_allowed(manager, connection, "presence", channel, request_id)
                if manager.options(channel).presence == "off":
                    raise WireError("no_presence", f"nobody keeps who is in {channel}", request_id)
                count, members = await manager.presence(channel)
                manager.reply(connection, wire.Members(channel, count, members, request_id))
            case wire.History():
                await _history(manager, connection, request)
            case wire.Delivered():
                await _delivered(manager, connection, request)
            case wire.Resume(id=request_id):
                raise WireError("invalid_request", "resume comes first, after connecting with ?resume=1", request_id)

    def _publish(self, request: Publishing) -> None:
        """Raises WireError."""
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
            connection.writes(channel, connection.outbox.heard_at)
        size = len(bytes(data))
        self._count_under_way(1, size)

        def told(done: Published | NotStoredError) -> None:
            self._count_under_way(-1, -size)
            if self._told is not None and not self._told.done():
                self._told.set_result(None)
            if isinstance(done, NotStoredError):
                self._refuse(WireError("not_stored", str(done), request_id))
            elif request_id is not None:
                manager.reply(connection, _ack(request_id, done))
            self._answered()

        key, later = request.idempotency_key or "", _later(manager, connection, request_id)
        told_here = contained("telling a client of its message", connection.outbox, told)
        try:
            manager.publish_soon(channel, data, told_here, connection, idempotency_key=key, on_stored=later)
        except Exception:
            self._count_under_way(-1, -size)
            raise

    def _count_under_way(self, messages: int, size: int) -> None:
        self._under_way += messages
        self._under_way_bytes += size
        if abs(size) >= COUNTED_BYTES:
            self.connection.outbox.inbound(size)


def _size(content: str | bytes) -> int:
    """Return its bytes, as the client sent them before compression."""
    return len(content) if isinstance(content, bytes) or content.isascii() else len(content.encode())


def _ack(request_id: Any, done: Published) -> wire.Ack:
    at = done.position
    return wire.Ack(request_id, at.offset if at else None, at.epoch if at else None, bool(at) if done.kept else None)


def _later(
    manager: DistributedWebSocketManager, connection: Connection, request_id: Any
) -> Callable[[Position], None] | None:
    """A second ack, for what could not be stored at first."""
    if request_id is None:
        return None

    def stored(at: Position) -> None:
        manager.reply(connection, wire.Ack(request_id, at.offset, at.epoch, durable=True))

    return contained("telling a client of its message", connection.outbox, stored)


async def _subscribe(manager: DistributedWebSocketManager, connection: Connection, request: wire.Subscribe) -> None:
    channel, request_id = request.channel, request.id
    if request.since is not None:
        await connection.outbox.until_drained()
    await _check_allowed(manager, connection, "subscribe", channel, request_id)
    if len(connection.channels | {channel}) > MAX_CHANNELS:
        problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
        raise WireError("too_many_channels", problem, request_id)

    def announce(joined: Joined) -> None:
        state = joined.state()
        manager.reply(connection, wire.Subscribed(channel=channel, **_fields(state)))
        if request_id is not None:
            manager.reply(connection, wire.Ack(request_id))

    try:
        await manager.join(connection, channel, request.since, announce)
    except ChannelFullError as exc:
        raise WireError("channel_full", str(exc), request_id) from None


def _fields(state: wire.ChannelState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__struct_fields__}


async def _history(manager: DistributedWebSocketManager, connection: Connection, request: wire.History) -> None:
    await connection.outbox.until_drained()
    await _check_allowed(manager, connection, "history", request.channel, request.id)
    try:
        page = await manager.history(request.channel, request.since, request.limit, reverse=request.reverse)
    except RedisUnavailableError:
        raise WireError("unavailable", HISTORY_UNAVAILABLE, request.id) from None
    manager.reply(connection, msgspec.structs.replace(page, id=request.id))


async def _delivered(manager: DistributedWebSocketManager, connection: Connection, request: wire.Delivered) -> None:
    channel, user_id, request_id = request.channel, request.user_id, request.id
    await _check_allowed(manager, connection, "publish", channel, request_id)
    wire.check_user(user_id, request_id)
    if not manager.options(channel).receipts:
        raise WireError("no_receipts", f"nobody keeps how far users have read {channel}", request_id)
    try:
        offset = await manager.read_by(channel, user_id, request.epoch)
    except RedisUnavailableError:
        raise WireError("unavailable", HISTORY_UNAVAILABLE, request_id) from None
    delivered = offset >= request.offset > 0
    manager.reply(connection, wire.Receipt(channel, user_id, delivered, offset, request_id))


async def _check_allowed(
    manager: DistributedWebSocketManager, connection: Connection, action: Action, channel: str, request_id: Any
) -> None:
    """Raises WireError, also for a channel that no client may name."""
    wire.check_channel(channel, request_id)
    await _ask_application(manager, connection, action, channel, request_id)


async def _ask_application(
    manager: DistributedWebSocketManager, connection: Connection, action: Action, channel: str, request_id: Any
) -> None:
    """Raises WireError `forbidden`."""
    identity = Identity(connection.user_id, connection.username)
    if not await is_allowed(manager.authorize, identity, action, channel):
        raise WireError("forbidden", f"you may not {action} {channel}", request_id)
