"""Carries out what a client of the hub asks for, and answers it."""

import time

from wsd.worker import wire
from wsd.worker.connection import Connection
from wsd.worker.websocket_manager import DistributedWebSocketManager
from wsd.worker.wire import CloseCode, WireError

MAX_CHANNELS = 100
"""Channels that one connection may be in."""


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
        case wire.Ping(id=request_id):
            manager.reply(connection, wire.Pong(request_id))
            return
        case wire.Presence(channel=channel, id=request_id):
            wire.check_channel(channel, request_id)
            count, members = await manager.presence(channel)
            manager.reply(connection, wire.Members(channel, count, members, request_id))
            return
        case wire.Broadcast(data=data, id=request_id):
            await manager.broadcast(manager.payload_filter(data, request_id), connection)
        case wire.Direct(user_id=user_id, data=data, id=request_id):
            wire.check_user(user_id, request_id)
            await manager.send_to_user(user_id, manager.payload_filter(data, request_id), connection)
        case wire.Subscribe(channel=channel, id=request_id):
            wire.check_channel(channel, request_id)
            if len(connection.channels | {channel}) > MAX_CHANNELS:
                problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
                raise WireError("too_many_channels", problem, request_id)
            await manager.join(connection, channel)
        case wire.Unsubscribe(channel=channel, id=request_id):
            wire.check_channel(channel, request_id)
            manager.leave(connection, channel)
        case wire.Publish(channel=channel, data=data, id=request_id):
            wire.check_channel(channel, request_id)
            await manager.publish(channel, manager.payload_filter(data, request_id), connection)
    if request_id is not None:
        manager.reply(connection, wire.Ack(request_id))
