"""The built-in hub: a WebSocket endpoint where any JSON message reaches all clients, and a page to try it."""

import asyncio
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker import wire
from wsd.worker.websocket_manager import Connection, DistributedWebSocketManager

CLOSE_SECONDS = 1.0
"""How long a close frame may wait for a client that does not read."""


GOODBYES = (1000, 1001)
"""Close codes of a client that leaves on purpose: done, or its page is closed (RFC 6455, 7.4.1)."""


async def page(request: Request) -> Response:
    return HTMLResponse(resources.files("wsd.templates").joinpath("hub.html").read_text("utf-8"))


async def endpoint(websocket: WebSocket) -> None:
    """`/ws?user_id=..&username=..`; a guest's name is made up, a user name defaults to the id."""
    manager: DistributedWebSocketManager = websocket.state.websocket_manager
    user_id = websocket.query_params.get("user_id") or manager.guest_name()
    username = websocket.query_params.get("username") or user_id
    await websocket.accept()
    for name, value in (("user_id", user_id), ("username", username)):
        if problem := wire.name_problem(value):
            await websocket.close(1008, f"{name} {problem}")
            return
    await serve(websocket, manager, await manager.connect(user_id, username))


async def serve(websocket: WebSocket, manager: DistributedWebSocketManager, connection: Connection) -> None:
    """Run an accepted WebSocket as a member of the cluster, until either side ends it."""
    receiver = asyncio.create_task(_receive(websocket, manager, connection))
    sender = asyncio.create_task(connection.pump(websocket.send_text))
    try:
        ends: set[asyncio.Future[Any]] = {receiver, sender, connection.closing}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        said_goodbye = receiver.done() and not receiver.cancelled() and receiver.exception() is None
        receiver.cancel()
        sender.cancel()
        await manager.disconnect(connection, goodbye=said_goodbye and receiver.result() in GOODBYES)
        results = await asyncio.gather(receiver, sender, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect):
            raise result
    if connection.closing.done():
        await _close(websocket, *connection.closing.result())


async def _receive(websocket: WebSocket, manager: DistributedWebSocketManager, connection: Connection) -> int:
    """Handle messages until the connection ends; its close code."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            code: int = message["code"]
            return code
        text = message.get("text")
        await manager.handle(connection, message["bytes"] if text is None else text)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        # The client does not read or is gone (Starlette's RuntimeError: closed meanwhile); returning ends
        # the transport.
        return


app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", endpoint)])
