"""Serving a client of an application's own protocol: it is admitted and connected, and taken out at the end."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import msgspec
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.application.client import Client, note_start, position_of
from wsd.worker.application.errors import CLIENT_MISTAKES, ClientRefusedError, InvalidPositionError
from wsd.worker.application.formats import Encode, format_of
from wsd.worker.application.servers import OtherServer, OwnServer, Server
from wsd.worker.delivery.handle import handle_of
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.translation import Translator
from wsd.worker.errors import ConnectionEndedError, TooManyConnectionsError
from wsd.worker.logs import get_logger
from wsd.worker.process_workers import serving_worker
from wsd.worker.security.admission import GUEST, IDENTITY_KEY, Admission, identity_in, subprotocol
from wsd.worker.security.authentication import Identity
from wsd.worker.security.credentials import EXPIRED
from wsd.worker.websocket_middleware import PASSED_KEY
from wsd.worker.wire import frames
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CloseCode, Ending, Side
from wsd.worker.wire.names import names_problem
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker

logger = get_logger(__name__)

_admissions: "WeakKeyDictionary[Worker, Admission]" = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms on which one client is served, see `Cluster.serve`."""

    identity: Identity | None
    username: str
    resume: str
    since: Mapping[str, Position | str]
    encode: Encode
    accept: bool
    subprotocol: str | None


class End(NamedTuple):
    """The end of a block, and the close frame for the client, if the connection has not ended yet."""

    code: int = CloseCode.NORMAL
    reason: str = ""
    quiet: bool = True  # the block ends without an error
    gone: bool = False  # the client is gone, as far as the block knows


@asynccontextmanager
async def serve(websocket: WebSocket, terms: Terms) -> AsyncIterator[Client]:
    """Serve a client for as long as the block runs, see `Cluster.serve`."""
    worker = serving_worker()
    await worker.start()
    admitted_here = PASSED_KEY not in websocket.scope
    if admitted_here:
        await _admit(websocket, worker, terms)
    elif terms.accept:
        await websocket.accept(terms.subprotocol)
    ends_in = _seconds_left(identity_in(websocket.scope), terms.identity)
    identity = _identity(websocket, worker, terms)
    client, server = await _connect(websocket, worker, terms, identity)
    if ends_in is not None and (admitted_here or terms.identity is not None):  # otherwise the middleware has seen to it
        client.connection.outbox.close_in(ends_in, CloseCode.TOKEN_EXPIRED, EXPIRED)
    end = End()
    try:
        yield client
    except BaseException as exc:
        end = end_of(exc)
        if not end.quiet:
            raise
    finally:
        await _leave(client, worker, end, server)


def _seconds_left(*identities: Identity | None) -> float | None:
    """Return how long all of these identities are valid, None if they do not end."""
    now = time.time()
    left = [identity.seconds_left(now) for identity in identities if identity is not None]
    return min((seconds for seconds in left if seconds is not None), default=None)


async def _admit(websocket: WebSocket, worker: Worker, terms: Terms) -> None:
    """Admit a client of an application that has no middleware of wsd, and accept it. Raises ClientRefusedError."""
    admission = _admissions.get(worker)
    if admission is None:
        admission = _admissions[worker] = Admission(worker.env, None)
    websocket.scope.setdefault("state", {})
    await worker.parts.sessions.turns()
    refusal = await admission.refusal(websocket.scope)
    if terms.accept and (refusal is None or not refusal.status):
        await websocket.accept(terms.subprotocol or subprotocol(websocket.scope))
    if refusal is not None:
        worker.manager.counts.refusals[refusal.reason] += 1
        raise ClientRefusedError(refusal.code, frames.close_reason(refusal.text))


def _identity(websocket: WebSocket, worker: Worker, terms: Terms) -> Identity:
    """Return who a client is, and note it in `websocket.state`. Raises ClientRefusedError for an invalid name."""
    found = terms.identity or identity_in(websocket.scope) or GUEST
    user_id = found.user_id or worker.manager.guest_name()
    username = terms.username or found.username or user_id
    identity = msgspec.structs.replace(found, user_id=user_id, username=username)
    if problem := names_problem(user_id, username):
        worker.manager.counts.refusals["name"] += 1
        raise ClientRefusedError(CloseCode.POLICY, frames.close_reason(problem))
    websocket.scope.setdefault("state", {})[IDENTITY_KEY] = identity
    return identity


async def _connect(websocket: WebSocket, worker: Worker, terms: Terms, identity: Identity) -> tuple[Client, Server]:
    """Connect a client that is accepted. Return it, and the way to its socket.

    Raises ClientRefusedError.
    """
    welcomes: list[wire.Welcome] = []
    handle = handle_of(websocket.scope)
    translator = Translator(format_of(terms.encode))  # first, since a function that cannot be hashed raises TypeError
    try:
        reached = {channel: position_of(at) for channel, at in terms.since.items()}
        since = {channel: position for channel, position in reached.items() if position is not None}
        connection = await worker.manager.connect(
            identity.user_id,
            identity.username,
            identity=identity,
            welcome=welcomes.append,
            resume_token=terms.resume,
            since=since,
            outbox=handle.outbox if handle is not None else None,
            trusted=True,
        )
    except InvalidPositionError as exc:
        raise ClientRefusedError(CloseCode.POLICY, frames.close_reason(str(exc))) from exc
    except TooManyConnectionsError as exc:
        raise ClientRefusedError(CloseCode.TOO_MANY, frames.close_reason(str(exc))) from exc
    except ConnectionEndedError as exc:
        raise ClientRefusedError(CloseCode.ABNORMAL, str(exc)) from exc
    for channel, state in welcomes[0].channels.items():
        note_start(translator, channel, state, since.get(channel))
    make = OwnServer if handle is not None else OtherServer
    server = make(websocket, connection.outbox, translator)
    return Client(websocket, worker, connection, identity, welcomes[0], translator, server), server


def end_of(exc: BaseException) -> End:
    """Return how a block ends that an exception leaves."""
    if isinstance(exc, WebSocketDisconnect) or _only_disconnects(exc):
        return End(gone=True)
    if isinstance(exc, WebSocketException):
        return End(exc.code, exc.reason or "")
    for kind, code in CLIENT_MISTAKES.items():
        if isinstance(exc, kind):
            logger.info("closed a client with %d: %s", code, exc)
            return End(code, str(exc))
    return End(CloseCode.INTERNAL_ERROR, quiet=False)


def _only_disconnects(exc: BaseException) -> bool:
    """Return whether an exception is a group, as task groups raise it, of nothing but ends of the connection."""
    return isinstance(exc, BaseExceptionGroup) and exc.split(WebSocketDisconnect)[1] is None


async def _leave(client: Client, worker: Worker, end: End, server: Server) -> None:
    """End the connection, unless it has ended, and take the client out."""
    outbox = client.connection.outbox
    try:
        if outbox.ended is None and not (end.gone and isinstance(server, OtherServer)):
            if end.quiet:
                await server.until_sent()
            _close(outbox, end)
    finally:
        try:
            await server.stop()
        finally:
            ended = outbox.ended or Ending(Side.UNKNOWN, CloseCode.ABNORMAL, "")
            worker.manager.disconnect(client.connection, ended.code, ended.reason)


def _close(outbox: Outbox, end: End) -> None:
    try:
        outbox.close(end.code, frames.close_reason(end.reason))
    except (TypeError, ValueError) as exc:
        logger.warning("an exception of the application names a close code that cannot be sent: %s", exc)
        outbox.close(CloseCode.INTERNAL_ERROR, "")
