"""The built-in hub: a WebSocket endpoint with channels, and a page to try it in a browser."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.background.waiting import end_tasks
from wsd.worker.delivery.handle import handle_of
from wsd.worker.endpoints import hub_page
from wsd.worker.endpoints.hub_client import Client
from wsd.worker.errors import ConnectionEndedError, TooManyConnectionsError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.membership import MAX_CHANNELS
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.admission import IDENTITY_KEY
from wsd.worker.security.authentication import Identity
from wsd.worker.security.credentials import CREDENTIALS_KEY, Credentials
from wsd.worker.server.other_protocols import close_code
from wsd.worker.wire import frames
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Position

RESUME_SECONDS = 10.0
"""How long a client that resumes its session may take to send its `resume` request."""

CLOSE_SECONDS = 1.0
"""How long sending a close frame may take, if the client does not read."""


async def endpoint(websocket: WebSocket) -> None:
    """Serve one client of the hub.

    Without authentication the client says who it is: `/ws?user_id=..&username=..`. Otherwise a guest gets a new name.
    """
    manager: DistributedWebSocketManager = websocket.state.websocket_manager
    identity: Identity | None = getattr(websocket.state, IDENTITY_KEY, None)
    credentials: Credentials | None = getattr(websocket.state, CREDENTIALS_KEY, None)
    if identity is not None:
        user_id, username = identity.user_id, identity.username
    else:
        user_id = websocket.query_params.get("user_id") or manager.guest_name()
        username = websocket.query_params.get("username") or user_id
    await websocket.accept()
    for name, value in (("user_id", user_id), ("username", username)):
        if problem := name_problem(value):
            manager.counts.refusals["name"] += 1
            await websocket.close(CloseCode.POLICY, f"{name} {problem}")
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
        except wire.WireError as exc:
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
        if handle is not None:
            client = Client(manager, await connecting, handle, credentials)
            handle.hand_off(client)
            handle.outbox.release()
        else:
            await serve(websocket, manager, connecting, credentials)
    except TooManyConnectionsError as exc:
        await websocket.close(CloseCode.TOO_MANY, str(exc))
    except ConnectionEndedError:
        return


def _resume(message: Message) -> wire.Resume:
    """Return the first message of a client that resumes its session. Raises WireError if it is another message."""
    request = wire.decode(_content(message))
    if not isinstance(request, wire.Resume):
        raise wire.WireError("invalid_request", "the first message after ?resume=1 is resume")
    if len(request.since) > MAX_CHANNELS + 2:
        raise wire.WireError("too_many_channels", f"a connection may be in {MAX_CHANNELS} channels")
    return request


async def serve(
    websocket: WebSocket,
    manager: DistributedWebSocketManager,
    connecting: Coroutine[Any, Any, Connection],
    credentials: Credentials | None = None,
) -> None:
    """Connect a client under a server with another protocol than ours, and serve it until either side ends it.

    Raises what `connecting` raises, and ConnectionEndedError if the client is gone before it is connected.
    """
    first = asyncio.create_task(websocket.receive())
    try:
        client = Client(manager, await _unless_gone(connecting, first), credentials=credentials)
        await _serve(websocket, client, first)
    finally:
        first.cancel()


async def _unless_gone(connecting: Coroutine[Any, Any, Connection], first: "asyncio.Task[Message]") -> Connection:
    """Connect a client, whose first message is on its way. Give up if that says that the client is gone."""
    task = asyncio.create_task(connecting)
    try:
        await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and first.result()["type"] == "websocket.disconnect":
            raise ConnectionEndedError("the WebSocket ended before its client was connected")
        return await task
    finally:
        await end_tasks(task)


async def _serve(websocket: WebSocket, client: Client, first: "asyncio.Task[Message]") -> None:
    """Serve a client that is connected. `first`: the receipt of its first message."""
    connection = client.connection
    connection.outbox.received_at = time.monotonic()  # from here on `client` notes it
    receiver = asyncio.create_task(_receive(websocket, client, first))
    sender = asyncio.create_task(connection.pump(websocket.send_text))
    code: int = CloseCode.ABNORMAL
    try:
        ends: set[asyncio.Future[Any]] = {receiver, sender, connection.closing}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if receiver.done() and receiver.exception() is None:
            code = receiver.result()
        elif connection.closing.done():
            code = connection.closing.result()[0]
    finally:
        receiver.cancel()
        sender.cancel()
        client.ended(code, "")
        try:
            raised = await end_tasks(receiver, sender)
        finally:
            connection.outbox.gone()
    for exc in raised:
        if not isinstance(exc, WebSocketDisconnect):
            raise exc
    if connection.closing.done():
        await _close(websocket, *connection.closing.result())


async def _receive(websocket: WebSocket, client: Client, first: "asyncio.Task[Message]") -> int:
    """Handle messages until the connection ends, and all that was sent before. Return its close code."""
    message = await first
    while True:
        if message["type"] == "websocket.disconnect":
            await client.until_idle()
            return close_code(message)
        client.received(_content(message))
        if client.waits_enough:
            await client.until_idle()
        message = await websocket.receive()


def _content(message: Message) -> str | bytes:
    text: str | None = message.get("text")
    content: str | bytes = message["bytes"] if text is None else text
    return content


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        # The client does not read or is gone (Starlette raises RuntimeError if it was closed meanwhile). Once the
        # application returns, the server ends the connection.
        return


app = Starlette(routes=[*hub_page.routes, WebSocketRoute("/ws", endpoint)])
