"""Carrying out the requests of a client of the hub that publish nothing, and answering them."""

import time

import msgspec

from wsd.worker.broker.message_broker import HISTORY_UNAVAILABLE
from wsd.worker.channels.joining import Joined
from wsd.worker.errors import ChannelFullError, RedisUnavailableError
from wsd.worker.hooks.functions import filtered_data
from wsd.worker.hooks.records import ClientMessage, MessageRefusedError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.membership import MAX_CHANNELS
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.authentication import AuthenticationError, NewTokenNeededError, UndecidedError
from wsd.worker.security.authorization import Action, is_allowed
from wsd.worker.security.channel_access import Grant, Refusal, refused
from wsd.worker.security.credentials import Credentials
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, check_channel
from wsd.worker.wire.messages import WireError

Publishing = wire.Broadcast | wire.Publish | wire.Direct


def published_in(request: Publishing) -> str:
    """Return the channel whose rules say whether a client may publish. Raises WireError for a name that is none."""
    if type(request) is wire.Publish:
        check_channel(request.channel, request.id)
        return request.channel
    return BROADCAST if type(request) is wire.Broadcast else DIRECT


def check_rules(
    manager: DistributedWebSocketManager,
    connection: Connection,
    action: Action,
    channel: str,
    request_id: wire.RequestId,
    token: Grant | None = None,
) -> None:
    """Check that the rules of a channel allow an action. `token`: what a subscription token grants that comes with it.

    Raises WireError `forbidden` or `token_needed`.
    """
    if (why := manager.refusal(connection, action, channel, token)) is not None:
        code: wire.ErrorCode = "token_needed" if why is Refusal.NO_TOKEN else "forbidden"
        raise WireError(code, refused(action, channel, why), request_id)


async def ask_to_publish(manager: DistributedWebSocketManager, connection: Connection, request: Publishing) -> None:
    """Ask the application whether a client may publish. Raises WireError if it may not."""
    if type(request) is wire.Direct:
        wire.check_user(request.user_id, request.id)
    await _ask_application(manager, connection, "publish", published_in(request), request.id)


async def filtered(manager: DistributedWebSocketManager, connection: Connection, request: Publishing) -> Publishing:
    """Return what the application's `on_message` makes of a message. Raises WireError if it refuses the message."""
    if manager.hooks.on_message is None:
        return request
    try:
        decoded = msgspec.json.decode(manager.payload_filter(request.data, request.id))
    except msgspec.ValidationError as exc:  # a number that no float can hold
        raise WireError("invalid_request", str(exc), request.id) from None
    message = ClientMessage(
        channel=published_in(request),
        data=decoded,
        identity=connection.identity,
        session_id=connection.session_id,
        to_user_id=request.user_id if isinstance(request, wire.Direct) else "",
    )
    try:
        data = await filtered_data(manager.hooks, message)
    except MessageRefusedError as exc:
        raise WireError(exc.code, str(exc), request.id) from None
    return msgspec.structs.replace(request, data=data)


async def carry_out(manager: DistributedWebSocketManager, connection: Connection, request: wire.Request) -> None:
    """Carry out a request that publishes nothing, and answer it.

    A request with a large answer waits until the client has taken what it was sent before.

    Raises WireError for a request that cannot be carried out.
    """
    match request:
        case wire.Subscribe():
            await _subscribe(manager, connection, request)
        case wire.Unsubscribe(channel=channel, id=request_id):
            check_channel(channel, request_id)
            await manager.leave(connection, channel)
            if request_id is not None:
                manager.reply(connection, wire.Ack(request_id))
        case wire.Presence(channel=channel, id=request_id):
            await connection.outbox.until_drained()
            await _check_allowed(manager, connection, "presence", channel, request_id)
            if manager.options(channel).presence == "off":
                raise WireError("no_presence", f"{channel} has no presence", request_id)
            count, members = await manager.presence(channel)
            manager.reply(connection, wire.Members(channel, count, members, request_id))
        case wire.History():
            await _history(manager, connection, request)
        case wire.Delivered():
            await _delivered(manager, connection, request)
        case wire.Resume(id=request_id):
            raise WireError("invalid_request", "resume comes first, after connecting with ?resume=1", request_id)


async def refresh(
    manager: DistributedWebSocketManager,
    connection: Connection,
    credentials: Credentials | None,
    request: wire.Refresh,
) -> None:
    """Replace the token of a client. `credentials` are None where clients are not authenticated.

    Raises WireError for a token that is refused. The connection stays as it is then.
    """
    if credentials is None:
        raise WireError(
            "invalid_request", "the server authenticates nobody, so there is no token to refresh", request.id
        )
    try:
        await credentials.refresh(request.token)
    except UndecidedError as exc:
        raise WireError("unavailable", str(exc), request.id) from None
    except AuthenticationError as exc:
        raise WireError("invalid_token", str(exc), request.id) from None
    connection.identity = credentials.identity
    connection.outbox.note("refreshed", "its token")
    if request.id is not None:
        manager.reply(connection, wire.Ack(request.id, token_expires_in=credentials.seconds_left))


async def _subscribe(manager: DistributedWebSocketManager, connection: Connection, request: wire.Subscribe) -> None:
    channel, request_id = request.channel, request.id
    if request.since is not None or request.last is not None:
        await connection.outbox.until_drained()
    check_channel(channel, request_id)
    grant = await _grant(manager, connection, request) if request.token else None
    check_rules(manager, connection, "subscribe", channel, request_id, grant)
    await _ask_application(manager, connection, "subscribe", channel, request_id)
    if grant is not None and channel in connection.channels and request.since is None and request.last is None:
        await manager.renew(connection, channel, grant)  # joining again would end the reading of what the client missed
        _ack_subscription(manager, connection, request_id, grant)
        return
    if len(connection.channels | {channel}) > MAX_CHANNELS:
        problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
        raise WireError("too_many_channels", problem, request_id)

    def announce(joined: Joined) -> None:
        state = msgspec.structs.asdict(joined.state())
        manager.reply(connection, wire.Subscribed(channel=channel, **state))
        _ack_subscription(manager, connection, request_id, grant)

    try:
        await manager.join(connection, channel, request.since, announce, last=request.last, grant=grant)
    except ChannelFullError as exc:
        raise WireError("channel_full", str(exc), request_id) from None


def _ack_subscription(
    manager: DistributedWebSocketManager, connection: Connection, request_id: wire.RequestId, grant: Grant | None
) -> None:
    if request_id is not None:
        seconds = grant.seconds_left(time.time()) if grant is not None else None
        manager.reply(connection, wire.Ack(request_id, token_expires_in=seconds))


async def _grant(manager: DistributedWebSocketManager, connection: Connection, request: wire.Subscribe) -> Grant:
    """Return what the subscription token of a request gives its client.

    Raises WireError: `token_needed` for a token that another one may replace, `unavailable` if the keys cannot be read
    now, `forbidden` for a token that is not for this.
    """
    channel, tokens = request.channel, manager.subscription_tokens
    code: wire.ErrorCode = "forbidden"
    try:
        if tokens is None:
            raise AuthenticationError("this server has no keys for tokens")
        return await tokens.grant(request.token, channel, connection.user_id)
    except AuthenticationError as exc:
        if isinstance(exc, NewTokenNeededError):
            code = "token_needed"
        elif isinstance(exc, UndecidedError):
            code = "unavailable"
        raise WireError(code, refused("subscribe", channel, str(exc)), request.id) from None


async def _history(manager: DistributedWebSocketManager, connection: Connection, request: wire.History) -> None:
    await connection.outbox.until_drained()
    await _check_allowed(manager, connection, "history", request.channel, request.id)
    try:
        page = await manager.history(
            request.channel, request.since, request.limit, reverse=request.reverse, epoch=request.epoch
        )
    except RedisUnavailableError:
        raise WireError("unavailable", HISTORY_UNAVAILABLE, request.id) from None
    manager.reply(connection, msgspec.structs.replace(page, id=request.id))


async def _delivered(manager: DistributedWebSocketManager, connection: Connection, request: wire.Delivered) -> None:
    channel, user_id, request_id = request.channel, request.user_id, request.id
    await _check_allowed(manager, connection, "publish", channel, request_id)
    wire.check_user(user_id, request_id)
    if not manager.options(channel).receipts:
        raise WireError("no_receipts", f"{channel} has no receipts", request_id)
    try:
        offset = await manager.read_by(channel, user_id, request.epoch)
    except RedisUnavailableError:
        raise WireError("unavailable", HISTORY_UNAVAILABLE, request_id) from None
    delivered = offset >= request.offset > 0
    manager.reply(connection, wire.Receipt(channel, user_id, delivered, offset, request_id))


async def _check_allowed(
    manager: DistributedWebSocketManager,
    connection: Connection,
    action: Action,
    channel: str,
    request_id: wire.RequestId,
) -> None:
    """Check that a client may name a channel, and that its rules and the application allow the action.

    Raises WireError.
    """
    check_channel(channel, request_id)
    check_rules(manager, connection, action, channel, request_id)
    await _ask_application(manager, connection, action, channel, request_id)


async def _ask_application(
    manager: DistributedWebSocketManager,
    connection: Connection,
    action: Action,
    channel: str,
    request_id: wire.RequestId,
) -> None:
    """Ask the application whether it allows an action. Raises WireError `forbidden`."""
    if manager.authorize is not None and not await is_allowed(manager.authorize, connection.identity, action, channel):
        raise WireError("forbidden", refused(action, channel), request_id)
