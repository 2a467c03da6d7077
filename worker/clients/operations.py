"""The operations that clients ask for, in whatever dialect. They know no format.

An operation checks the rules of a channel, asks the application, and acts. What it does not do raises RequestError.
"""

import time
from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from wsd.worker.broker.history import Page
from wsd.worker.broker.message_broker import HISTORY_UNAVAILABLE
from wsd.worker.channels.joining import PATIENCE_SECONDS, Joined
from wsd.worker.channels.recovery import AnyEpoch
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
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, MAX_CHANNEL_LENGTH, check_channel, user_channel
from wsd.worker.wire.messages import ErrorCode, Member, RequestError, check_user
from wsd.worker.wire.position import Position


class Publication(Struct, frozen=True, gc=False):
    """A message that a client publishes: in a `channel`, to the user `user_id`, or to all clients if both are None."""

    data: Raw
    channel: str | None = None
    user_id: str | None = None
    idempotency_key: str = ""

    @property
    def ruled_by(self) -> str:
        """The channel whose rules say whether a client may publish this."""
        return self.channel if self.channel is not None else BROADCAST if self.user_id is None else DIRECT

    @property
    def target(self) -> str:
        """The channel in which this is published."""
        return self.ruled_by if self.user_id is None else user_channel(self.user_id)


# Publishing


def check_publication(manager: DistributedWebSocketManager, connection: Connection, publication: Publication) -> None:
    """Check that the rules of a channel allow a client to publish. Raises RequestError."""
    channel = publication.channel
    if channel is not None:
        if len(channel) <= MAX_CHANNEL_LENGTH and manager.open_to_publish(channel):
            return  # the plain message: one look-up says that nothing speaks against it
        check_channel(channel)
    _check_rules(manager, connection, "publish", publication.ruled_by)
    if publication.user_id is not None:
        check_user(publication.user_id)


async def permitted(
    manager: DistributedWebSocketManager, connection: Connection, publication: Publication
) -> Publication:
    """Return a publication as the application permits it: `authorize` is asked, and `on_message` may change the data.

    Raises RequestError if the application refuses it.
    """
    await _ask_application(manager, connection, "publish", publication.ruled_by)
    if manager.hooks.on_message is None:
        return publication
    try:
        decoded = msgspec.json.decode(manager.payload_filter(publication.data))
    except msgspec.ValidationError as exc:  # a number that no float can hold
        raise RequestError("invalid_request", str(exc)) from None
    message = ClientMessage(
        channel=publication.ruled_by,
        data=decoded,
        identity=connection.identity,
        session_id=connection.session_id,
        to_user_id=publication.user_id or "",
    )
    try:
        data = await filtered_data(manager.hooks, message)
    except MessageRefusedError as exc:
        raise RequestError(exc.code, str(exc)) from None
    return msgspec.structs.replace(publication, data=data)


# Channels


async def subscribe(
    manager: DistributedWebSocketManager,
    connection: Connection,
    channel: str,
    announce: Callable[[Joined | None, float | None], None],
    *,
    since: Position | AnyEpoch | None = None,
    last: int | None = None,
    token: str = "",
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Make a client a member of a channel: from now on, from `since` on, or from the newest `last` messages on.

    `token`: a subscription token for the channel, or "". `announce` is called once the client is a member, before
    anything of the channel is sent to it: with its place, and with the seconds for which the token is valid. The place
    is None if the client was a member already and has only shown another token. The seconds are None if there is no
    token, or if the token does not expire. `patience`: the seconds that a client with earlier messages waits for a
    Redis that is away.

    Raises RequestError.
    """
    if since is not None or last is not None:
        await connection.outbox.until_drained()
    check_channel(channel)
    grant = await _grant(manager, connection, channel, token) if token else None
    _check_rules(manager, connection, "subscribe", channel, grant)
    await _ask_application(manager, connection, "subscribe", channel)
    if grant is not None and channel in connection.channels and since is None and last is None:
        await manager.renew(connection, channel, grant)  # joining again would end the reading of what the client missed
        announce(None, grant.seconds_left(time.time()))
        return
    if len(connection.channels | {channel}) > MAX_CHANNELS:
        problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
        raise RequestError("too_many_channels", problem)

    def joined(place: Joined) -> None:
        announce(place, grant.seconds_left(time.time()) if grant is not None else None)

    try:
        await manager.join(connection, channel, since, joined, last=last, grant=grant, patience=patience)
    except ChannelFullError as exc:
        raise RequestError("channel_full", str(exc)) from None


async def unsubscribe(manager: DistributedWebSocketManager, connection: Connection, channel: str) -> None:
    """Take a client out of a channel. Raises RequestError for a name that is none."""
    check_channel(channel)
    await manager.leave(connection, channel)


async def presence(
    manager: DistributedWebSocketManager, connection: Connection, channel: str
) -> tuple[int, list[Member]]:
    """Return the number of the members of a channel, and a part of them.

    Waits until the client has taken what it was sent before. Raises RequestError.
    """
    await connection.outbox.until_drained()
    await _check_allowed(manager, connection, "presence", channel)
    if manager.options(channel).presence == "off":
        raise RequestError("no_presence", f"{channel} has no presence")
    return await manager.presence(channel)


async def history(
    manager: DistributedWebSocketManager,
    connection: Connection,
    channel: str,
    *,
    since: int,
    limit: int,
    reverse: bool,
    epoch: str,
) -> Page:
    """Return messages of a channel, see `DistributedWebSocketManager.history_page`.

    Waits until the client has taken what it was sent before. Raises RequestError.
    """
    await connection.outbox.until_drained()
    await _check_allowed(manager, connection, "history", channel)
    try:
        return await manager.history_page(channel, since, limit, reverse=reverse, epoch=epoch)
    except RedisUnavailableError:
        raise RequestError("unavailable", HISTORY_UNAVAILABLE) from None


async def read_by(
    manager: DistributedWebSocketManager, connection: Connection, channel: str, user_id: str, epoch: str
) -> int:
    """Return the highest offset in a channel that a user has read; 0 if none is known. Raises RequestError."""
    await _check_allowed(manager, connection, "publish", channel)
    check_user(user_id)
    if not manager.options(channel).receipts:
        raise RequestError("no_receipts", f"{channel} has no receipts")
    try:
        return await manager.read_by(channel, user_id, epoch)
    except RedisUnavailableError:
        raise RequestError("unavailable", HISTORY_UNAVAILABLE) from None


# Tokens


async def refresh(connection: Connection, credentials: Credentials | None, token: str) -> float | None:
    """Replace the token of a client. Return for how many seconds the new one is valid, None if it does not expire.

    `credentials` are None where clients are not authenticated.

    Raises RequestError for a token that is refused. The connection stays as it is then.
    """
    if credentials is None:
        raise RequestError("invalid_request", "the server authenticates nobody, so there is no token to refresh")
    try:
        await credentials.refresh(token)
    except UndecidedError as exc:
        raise RequestError("unavailable", str(exc)) from None
    except AuthenticationError as exc:
        raise RequestError("invalid_token", str(exc)) from None
    connection.identity = credentials.identity
    connection.outbox.note("refreshed", "its token")
    return credentials.seconds_left


async def _grant(manager: DistributedWebSocketManager, connection: Connection, channel: str, token: str) -> Grant:
    """Return what a subscription token gives its client.

    Raises RequestError: `token_needed` for a token that another one may replace, `unavailable` if the keys cannot be
    read now, `forbidden` for a token that is not for this.
    """
    tokens = manager.subscription_tokens
    code: ErrorCode = "forbidden"
    try:
        if tokens is None:
            raise AuthenticationError("this server has no keys for tokens")
        return await tokens.grant(token, channel, connection.user_id)
    except AuthenticationError as exc:
        if isinstance(exc, NewTokenNeededError):
            code = "token_needed"
        elif isinstance(exc, UndecidedError):
            code = "unavailable"
        raise RequestError(code, refused("subscribe", channel, str(exc))) from None


# Whether a client may


async def _check_allowed(
    manager: DistributedWebSocketManager, connection: Connection, action: Action, channel: str
) -> None:
    """Check that a client may name a channel, and that its rules and the application allow the action.

    Raises RequestError.
    """
    check_channel(channel)
    _check_rules(manager, connection, action, channel)
    await _ask_application(manager, connection, action, channel)


def _check_rules(
    manager: DistributedWebSocketManager,
    connection: Connection,
    action: Action,
    channel: str,
    token: Grant | None = None,
) -> None:
    """Check that the rules of a channel allow an action. `token`: what a subscription token grants that comes with it.

    Raises RequestError `forbidden` or `token_needed`.
    """
    if (why := manager.refusal(connection, action, channel, token)) is not None:
        code: ErrorCode = "token_needed" if why is Refusal.NO_TOKEN else "forbidden"
        raise RequestError(code, refused(action, channel, why))


async def _ask_application(
    manager: DistributedWebSocketManager, connection: Connection, action: Action, channel: str
) -> None:
    """Ask the application whether it allows an action. Raises RequestError `forbidden`."""
    if manager.authorize is not None and not await is_allowed(manager.authorize, connection.identity, action, channel):
        raise RequestError("forbidden", refused(action, channel))
