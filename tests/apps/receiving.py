"""Receives messages in the ways of applications: by a ConnectionManager, by itself, and late."""

import asyncio

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from wsd import ConnectionManager, get_websocket_manager
from wsd.worker.delivery.handle import handle_of

manager = ConnectionManager()


async def echo(websocket: WebSocket) -> None:
    async for text in websocket.iter_text():
        await manager.send_personal_message(text, websocket)


async def chat(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    await echo(websocket)


async def by_itself(websocket: WebSocket) -> None:
    await websocket.accept()
    handle = handle_of(websocket.scope)
    outbox = handle.outbox if handle is not None else None
    connection = await get_websocket_manager().connect("ann", welcome=False, outbox=outbox)
    pump = asyncio.create_task(connection.pump(websocket.send_text))
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    pump.cancel()


async def busy(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    await asyncio.sleep(1.5)
    await echo(websocket)


app = Starlette(
    routes=[WebSocketRoute("/chat", chat), WebSocketRoute("/self", by_itself), WebSocketRoute("/busy", busy)]
)
