"""Serving a client from its connection to its end, whatever it speaks."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.background.waiting import end_tasks
from wsd.worker.clients.client import Client
from wsd.worker.delivery.handle import handle_of
from wsd.worker.errors import ConnectionEndedError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.security.authentication import Identity
from wsd.worker.server.other_protocols import close_code, write_to
from wsd.worker.wire.close_codes import CloseCode

CLOSE_SECONDS = 1.0
"""How long sending a close frame may take, if the client does not read."""


def names_of(websocket: WebSocket, manager: DistributedWebSocketManager, identity: Identity | None) -> tuple[str, str]:
    """Return the user id and the name of a client: those of its identity, or else those that its URL has.

    A client without an identity that says nothing of itself is a guest with a new name.
    """
    if identity is not None:
        return identity.user_id, identity.username
    user_id = websocket.query_params.get("user_id") or manager.guest_name()
    return user_id, websocket.query_params.get("username") or user_id


async def serve(
    websocket: WebSocket,
    connecting: Coroutine[Any, Any, Connection],
    client_of: Callable[[Connection], Client],
) -> None:
    """Connect a client, and serve it. `client_of` makes its receiver.

    Under our WebSocket protocol this returns once the client is connected, and the connection is handed off. Under
    another one it returns when either side has ended the connection.

    Raises what `connecting` raises, and ConnectionEndedError if the client is gone before it is connected.
    """
    handle = handle_of(websocket.scope)
    if handle is not None:
        handle.hand_off(client_of(await connecting))
        handle.outbox.release()
        return
    first = asyncio.create_task(websocket.receive())
    try:
        await _serve(websocket, client_of(await _unless_gone(connecting, first)), first)
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
    sender = asyncio.create_task(connection.outbox.pump_messages(partial(write_to, websocket)))
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
        await _close(websocket, *connection.outbox.dialect.closing(*connection.closing.result()))


async def _receive(websocket: WebSocket, client: Client, first: "asyncio.Task[Message]") -> int:
    """Handle messages until the connection ends, and all that was sent before. Return its close code."""
    message = await first
    while True:
        if message["type"] == "websocket.disconnect":
            await client.until_idle()
            return close_code(message)
        client.received(content_of(message))
        if client.waits_enough:
            await client.until_idle()
        message = await websocket.receive()


def content_of(message: Message) -> str | bytes:
    """Return what a client has sent."""
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
