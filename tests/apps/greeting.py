"""Speaks a language of its own at /ws: it says hello first, and ends after one message."""

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.receive_text()


app = Starlette(routes=[WebSocketRoute("/ws", greet)])
