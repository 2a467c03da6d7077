"""The WebSocket endpoint of the Centrifuge protocol.

A client says who it is in its first command, `connect`, whose token is checked like one of a handshake.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from wsd.worker.centrifuge import codes, json_frames, protobuf_frames
from wsd.worker.centrifuge.client import PATIENCE_SECONDS, VERSION, CentrifugeClient, whole
from wsd.worker.centrifuge.dialect import CentrifugeDialect
from wsd.worker.centrifuge.messages import (
    BadCommand,
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Join,
    Push,
    Reply,
    SubscribeRequest,
    SubscribeResult,
)
from wsd.worker.centrifuge.names import public_name
from wsd.worker.clients.serving import content_of, names_of, serve
from wsd.worker.contract.http_paths import CENTRIFUGE_PATH
from wsd.worker.delivery.handle import handle_of
from wsd.worker.errors import ConnectionEndedError, TooManyConnectionsError
from wsd.worker.manager.connection import CentrifugeRules, Connection
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.admission import DEFERRED_KEY, IDENTITY_KEY, DeferredAuthentication
from wsd.worker.security.authentication import AuthenticationError, Identity, TokenExpiredError, UndecidedError
from wsd.worker.security.credentials import CREDENTIALS_KEY, Credentials
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, user_channel
from wsd.worker.wire.frames import BINARY, TEXT, close_reason
from wsd.worker.wire.names import names_problem
from wsd.worker.wire.position import Position

PROTOBUF_SUBPROTOCOL = "centrifuge-protobuf"

CONNECT_SECONDS = 10.0
"""How long a client may take to send `connect`."""

GRACE_SECONDS = 25.0
"""How long after the end of its token a client may still replace it."""

JSON = CentrifugeDialect(json_frames, TEXT)
PROTOBUF = CentrifugeDialect(protobuf_frames, BINARY)


class _RefusedError(Exception):
    """The client is not connected. It gets the reply, if there is one, and then the close frame."""

    def __init__(self, close: codes.Close, reply: Reply | None = None) -> None:
        super().__init__(close.reason)
        self.close = close
        self.reply = reply


class _Admitted(NamedTuple):
    """The names and the proofs of a client. `credentials`: None for a client that nothing authenticates."""

    user_id: str
    username: str
    identity: Identity | None
    credentials: Credentials | None


async def endpoint(websocket: WebSocket) -> None:
    """Serve one client of the Centrifuge protocol."""
    manager: DistributedWebSocketManager = websocket.state.websocket_manager
    if not manager.centrifuge.enabled:
        await websocket.send_denial_response(PlainTextResponse("centrifuge.enabled is false", 404))
        return
    dialect, subprotocol = _dialect_of(websocket)
    await websocket.accept(subprotocol)
    try:
        first = await _first_frame(websocket, dialect)
        if first is not None:
            await _connect(websocket, manager, dialect, *first)
    except _RefusedError as exc:
        manager.counts.refusals["unauthenticated"] += 1
        if exc.reply is not None:
            await _send(websocket, dialect, exc.reply)
        await websocket.close(exc.close.code, close_reason(exc.close.reason))
    except TooManyConnectionsError:
        await websocket.close(*codes.CONNECTION_LIMIT)
    except ConnectionEndedError:
        return


def _dialect_of(websocket: WebSocket) -> tuple[CentrifugeDialect, str | None]:
    """Return the dialect of a client by its handshake, and the subprotocol to accept."""
    if PROTOBUF_SUBPROTOCOL in websocket.scope.get("subprotocols", ()):
        return PROTOBUF, PROTOBUF_SUBPROTOCOL
    query = websocket.query_params
    asked = query.get("format") or query.get("cf_protocol")
    return (PROTOBUF if asked == "protobuf" else JSON), None


async def _first_frame(
    websocket: WebSocket, dialect: CentrifugeDialect
) -> tuple[int, ConnectRequest, Sequence[Command | BadCommand]] | None:
    """Return the first frame: the id of `connect`, what it asks for, and the commands after it.

    Return None if the client is gone.

    Raises _RefusedError.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            message = await websocket.receive()
    except TimeoutError:
        raise _RefusedError(codes.STALE) from None
    if message["type"] == "websocket.disconnect":
        return None
    try:
        commands = dialect.frames.decode(content_of(message))
    except ValueError as exc:
        raise _bad_request(str(exc)) from None
    first = commands[0] if commands else None
    if not isinstance(first, Command) or first.connect is None or not first.id:
        raise _bad_request("the first command is connect")
    return first.id, first.connect, commands[1:]


async def _connect(
    websocket: WebSocket,
    manager: DistributedWebSocketManager,
    dialect: CentrifugeDialect,
    number: int,
    request: ConnectRequest,
    later: Sequence[Command | BadCommand],
) -> None:
    """Connect a client, and serve it. `number`: the id of `connect`. `later`: the commands that came with it.

    Raises what the parts raise.
    """
    admitted = await _admit(websocket, manager, request, number)
    channels = _server_side_channels(manager.centrifuge, admitted.user_id)
    handle = handle_of(websocket.scope)
    welcomes: list[wire.Welcome] = []
    connecting = manager.connect(
        admitted.user_id,
        admitted.username,
        identity=admitted.identity,
        since={
            channels[name]: Position(wanted.offset, wanted.epoch)
            for name, wanted in request.subs.items()
            if name in channels and wanted.recover
        },
        welcome=welcomes.append,
        outbox=handle.outbox if handle is not None else None,
        dialect=dialect,
        patience=PATIENCE_SECONDS,
    )

    def client_of(connection: Connection) -> CentrifugeClient:
        client = CentrifugeClient(manager, connection, dialect, handle, admitted.credentials)
        ping_interval = manager.ping_interval if handle is not None else 0
        result = _result(client, welcomes[0], request, channels, admitted.credentials, ping_interval)
        manager.greet(connection, dialect.frames.encode([Reply(id=number, connect=result)]))
        if admitted.credentials is not None:
            admitted.credentials.end_by(connection.outbox.close_in, 1.0, GRACE_SECONDS)
        own = user_channel(connection.user_id)
        if public_name(own) in channels and manager.options(own).presence == "events":
            # It has no list of members: each client hears of itself alone.
            info = ClientInfo(user=connection.user_id, client=connection.outbox.public_id)
            manager.reply(connection, dialect.push(Push(channel=public_name(own), join=Join(info=info))))
        client.begin_first(later)
        return client

    await serve(websocket, connecting, client_of)


async def _admit(
    websocket: WebSocket, manager: DistributedWebSocketManager, request: ConnectRequest, number: int
) -> _Admitted:
    """Return who a client is: by its token, else by its handshake. Raises _RefusedError."""
    state = websocket.scope["state"]
    deferred: DeferredAuthentication | None = state.get(DEFERRED_KEY)
    credentials: Credentials | None = state.get(CREDENTIALS_KEY)
    identity: Identity | None = state.get(IDENTITY_KEY)
    if deferred is not None and request.token:
        try:
            credentials = await deferred.credentials(request.token)
        except TokenExpiredError:
            raise _RefusedError(codes.CONNECTION_EXPIRED, Reply(id=number, error=codes.TOKEN_EXPIRED)) from None
        except UndecidedError:
            raise _RefusedError(codes.SERVER_ERROR, Reply(id=number, error=codes.INTERNAL)) from None
        except AuthenticationError as exc:
            raise _RefusedError(codes.Close(codes.INVALID_TOKEN.code, f"invalid token: {exc}")) from None
        identity = credentials.identity
    elif deferred is not None and identity is None:
        raise _bad_request("a token is needed")
    user_id, username = names_of(websocket, manager, identity)
    if problem := names_problem(user_id, username):
        raise _bad_request(problem)
    return _Admitted(user_id, username, identity, credentials)


def _server_side_channels(rules: CentrifugeRules, user_id: str) -> dict[str, str]:
    """Return the channels into which the server puts a client: their labels in the welcome by the client's names."""
    channels = {}
    if rules.broadcast:
        channels[BROADCAST] = BROADCAST
    if rules.personal_channel:
        channels[public_name(user_channel(user_id))] = DIRECT
    return channels


def _result(
    client: CentrifugeClient,
    welcome: wire.Welcome,
    request: ConnectRequest,
    channels: Mapping[str, str],
    credentials: Credentials | None,
    ping_interval: float,
) -> ConnectResult:
    seconds = credentials.seconds_left if credentials is not None else None
    return ConnectResult(
        client=client.connection.outbox.public_id,
        version=VERSION,
        expires=seconds is not None,
        ttl=whole(seconds),
        subs={name: _server_side(welcome.channels[label], request.subs.get(name)) for name, label in channels.items()},
        ping=int(ping_interval),
        pong=ping_interval > 0,
    )


def _server_side(state: wire.ChannelState, wanted: SubscribeRequest | None) -> SubscribeResult:
    """Return what a client is told of a channel into which the server puts it."""
    offset, recovered = state.offset or 0, state.recovered is True
    return SubscribeResult(
        recoverable=state.epoch is not None,
        positioned=state.epoch is not None,
        epoch=state.epoch or "",
        offset=offset - (state.count or 0) if recovered else offset,
        recovered=recovered,
        was_recovering=wanted is not None and wanted.recover,
    )


async def _send(websocket: WebSocket, dialect: CentrifugeDialect, reply: Reply) -> None:
    frame = dialect.frames.encode([reply])
    if dialect.opcode == BINARY:
        await websocket.send_bytes(frame)
    else:
        await websocket.send_text(frame.decode())


def _bad_request(detail: str) -> _RefusedError:
    return _RefusedError(codes.Close(codes.BAD_REQUEST_CLOSE.code, f"bad request: {detail}"))


route = WebSocketRoute(CENTRIFUGE_PATH, endpoint)
"""The route of the hub to these clients."""
