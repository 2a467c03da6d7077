"""Carries out what a client of the hub asks for, and answers it."""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from wsd.worker import wire
from wsd.worker.authentication import Identity
from wsd.worker.authorization import Action, is_allowed
from wsd.worker.channels import Joined
from wsd.worker.connection import Connection
from wsd.worker.history import Position
from wsd.worker.message_broker import RefusedError
from wsd.worker.websocket_manager import (
    MAX_CHANNELS,
    ChannelFullError,
    DistributedWebSocketManager,
    Published,
)
from wsd.worker.wire import CloseCode, WireError


async def handle(manager: DistributedWebSocketManager, connection: Connection, text: str | bytes) -> None:
    """One message of a client."""
    manager.messages_in += 1
    connection.outbox.heard_at = now = time.monotonic()
    try:
        _check_rate(manager, connection, now)
        await _carry_out(manager, connection, wire.decode(text))
    except WireError as exc:
        manager.reply(connection, wire.Error(exc.code, str(exc), exc.request_id))


def _check_rate(manager: DistributedWebSocketManager, connection: Connection, now: float) -> None:
    """Raises WireError; who goes on regardless is closed."""
    if connection.bucket is None or connection.bucket.take(now):
        connection.refused_in_a_row = 0
        return
    manager.refusals["rate_limited"] += 1
    connection.refused_in_a_row += 1
    limits = manager.limits
    if connection.refused_in_a_row > limits.message_burst:
        connection.close(CloseCode.POLICY, "too many messages")
    raise WireError("rate_limited", f"not more than {limits.messages_per_second:g} messages a second")


async def _carry_out(manager: DistributedWebSocketManager, connection: Connection, request: wire.Request) -> None:
    """Raises WireError."""
    match request:
        case wire.Ping(id=request_id, positions=positions):
            for channel, at in positions.items():
                manager.confirm(connection, channel, Position(at.offset, at.epoch))
            manager.reply(connection, wire.Pong(request_id))
        case wire.Broadcast() | wire.Publish() | wire.Direct():
            await _publish(manager, connection, request)
        case wire.Subscribe():
            await _subscribe(manager, connection, request)
        case wire.Unsubscribe(channel=channel, id=request_id):
            wire.check_channel(channel, request_id)
            await manager.leave(connection, channel)
            if request_id is not None:
                manager.reply(connection, wire.Ack(request_id))
        case wire.Presence(channel=channel, id=request_id):
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
            raise WireError("invalid_request", "resume comes first, after connecting with ?session=", request_id)


async def _publish(
    manager: DistributedWebSocketManager, connection: Connection, request: wire.Broadcast | wire.Publish | wire.Direct
) -> None:
    data = manager.payload_filter(request.data, request.id)
    key = request.idempotency_key or ""
    answer = _later(manager, connection, request.id)
    try:
        match request:
            case wire.Broadcast():
                done = await manager.broadcast(data, connection, idempotency_key=key, on_stored=answer)
            case wire.Publish(channel=channel):
                await _check_allowed(manager, connection, "publish", channel, request.id)
                done = await manager.publish(channel, data, connection, idempotency_key=key, on_stored=answer)
            case wire.Direct(user_id=user_id):
                wire.check_user(user_id, request.id)
                done = await manager.send_to_user(user_id, data, connection, idempotency_key=key, on_stored=answer)
    except RefusedError as exc:
        raise WireError("not_stored", f"Redis does not take it: {exc}", request.id) from None
    if request.id is not None:
        manager.reply(connection, _ack(request.id, done))


def _ack(request_id: Any, done: Published) -> wire.Ack:
    at = done.position
    return wire.Ack(request_id, at.offset if at else None, at.epoch if at else None, bool(at) if done.kept else None)


def _later(
    manager: DistributedWebSocketManager, connection: Connection, request_id: Any
) -> Callable[[Position], None] | None:
    """A second ack, for what could not be stored at first."""
    if request_id is None:
        return None
    return lambda at: manager.reply(connection, wire.Ack(request_id, at.offset, at.epoch, durable=True))


async def _subscribe(manager: DistributedWebSocketManager, connection: Connection, request: wire.Subscribe) -> None:
    channel, request_id = request.channel, request.id
    await _check_allowed(manager, connection, "subscribe", channel, request_id)
    if len(connection.channels | {channel}) > MAX_CHANNELS:
        problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
        raise WireError("too_many_channels", problem, request_id)

    def announce(joined: Joined) -> None:
        state = joined.state()
        manager.reply(connection, wire.Subscribed(channel=channel, **_fields(state)))
        if request_id is not None:
            manager.reply(connection, wire.Ack(request_id))

    since = request.since
    try:
        await manager.join(connection, channel, Position(since.offset, since.epoch) if since else None, announce)
    except ChannelFullError as exc:
        raise WireError("channel_full", str(exc), request_id) from None


def _fields(state: wire.ChannelState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in state.__struct_fields__}


async def _history(manager: DistributedWebSocketManager, connection: Connection, request: wire.History) -> None:
    await _check_allowed(manager, connection, "history", request.channel, request.id)
    try:
        page = await manager.history(request.channel, request.since, request.limit, reverse=request.reverse)
    except ConnectionError as exc:
        raise WireError("unavailable", f"Redis does not answer: {exc}", request.id) from None
    manager.reply(connection, msgspec.structs.replace(page, id=request.id))


async def _delivered(manager: DistributedWebSocketManager, connection: Connection, request: wire.Delivered) -> None:
    channel, user_id, request_id = request.channel, request.user_id, request.id
    await _check_allowed(manager, connection, "publish", channel, request_id)
    wire.check_user(user_id, request_id)
    if not manager.options(channel).receipts:
        raise WireError("no_receipts", f"nobody keeps how far users have read {channel}", request_id)
    try:
        offset = await manager.read_by(channel, user_id, request.epoch)
    except ConnectionError as exc:
        raise WireError("unavailable", f"Redis does not answer: {exc}", request_id) from None
    delivered = offset >= request.offset > 0
    manager.reply(connection, wire.Receipt(channel, user_id, delivered, offset, request_id))


async def _check_allowed(
    manager: DistributedWebSocketManager, connection: Connection, action: Action, channel: str, request_id: Any
) -> None:
    """Raises WireError."""
    wire.check_channel(channel, request_id)
    identity = Identity(connection.user_id, connection.username)
    if not await is_allowed(manager.authorize, identity, action, channel):
        raise WireError("forbidden", f"you may not {action} {channel}", request_id)
