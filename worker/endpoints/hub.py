"""The built-in hub: a WebSocket endpoint with channels, and a page to try it in a browser."""

import asyncio

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from wsd.worker.centrifuge import endpoint as centrifuge
from wsd.worker.clients.serving import content_of, names_of, serve
from wsd.worker.delivery.handle import handle_of
from wsd.worker.endpoints import hub_page
from wsd.worker.endpoints.hub_client import HubClient
from wsd.worker.errors import ConnectionEndedError, TooManyConnectionsError
from wsd.worker.manager.membership import MAX_CHANNELS
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.admission import IDENTITY_KEY
from wsd.worker.security.authentication import Identity
from wsd.worker.security.credentials import CREDENTIALS_KEY, Credentials
from wsd.worker.wire import frames
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.names import names_problem
from wsd.worker.wire.position import Position

RESUME_SECONDS = 10.0
"""How long a client that resumes its session may take to send its `resume` request."""


async def endpoint(websocket: WebSocket) -> None:
    """Serve one client of the hub.

    Without authentication the client says who it is: `/ws?user_id=..&username=..`. Otherwise a guest gets a new name.
    """
    manager: DistributedWebSocketManager = websocket.state.websocket_manager
    identity: Identity | None = getattr(websocket.state, IDENTITY_KEY, None)
    credentials: Credentials | None = getattr(websocket.state, CREDENTIALS_KEY, None)
    user_id, username = names_of(websocket, manager, identity)
    await websocket.accept()
    if problem := names_problem(user_id, username):
        manager.counts.refusals["name"] += 1
        await websocket.close(CloseCode.POLICY, problem)
        return
    token = websocket.query_params.get("session", "")
    since: dict[str, Position] = {}
    if token or websocket.query_params.get("resume") == "1":
        try:
            async with asyncio.timeout(RESUME_SECONDS):
                first = await websocket.receive()
        except TimeoutError:
            await websocket.close(CloseCode.RESUME_TIMEOUT, "no resume request came in time")
            return
        if first["type"] == "websocket.disconnect":
            return
        try:
            resume = _resume(first)
        except wire.RequestError as exc:
            await websocket.close(CloseCode.POLICY, frames.close_reason(str(exc)))
            return
        token = resume.token or token
        since = resume.since
    handle = handle_of(websocket.scope)
    connecting = manager.connect(
        user_id,
        username,
        identity=identity,
        resume_token=token,
        since=since,
        outbox=handle.outbox if handle is not None else None,
    )
    try:
        await serve(websocket, connecting, lambda connection: HubClient(manager, connection, handle, credentials))
    except TooManyConnectionsError as exc:
        await websocket.close(CloseCode.TOO_MANY, str(exc))
    except ConnectionEndedError:
        return


def _resume(message: Message) -> wire.Resume:
    """Return the first message of a client that resumes its session. Raises RequestError if it is another message."""
    request = wire.decode(content_of(message))
    if not isinstance(request, wire.Resume):
        raise wire.RequestError("invalid_request", "the first message after ?resume=1 is resume")
    if len(request.since) > MAX_CHANNELS + 2:
        raise wire.RequestError("too_many_channels", f"a connection may be in {MAX_CHANNELS} channels")
    return request


app = Starlette(routes=[*hub_page.routes, WebSocketRoute("/ws", endpoint), centrifuge.route])
