"""Gives WebSocketMiddleware an authentication of its own: the query string has to be `secret`."""

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket

from wsd import Identity, WebSocketMiddleware


def authenticate(scope: Scope) -> Identity | None:
    return Identity("ann") if scope["query_string"] == b"secret" else None


async def send_user_id(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.state.identity.user_id)
    await websocket.close()


app = Starlette(routes=[WebSocketRoute("/user", send_user_id)])
app.add_middleware(WebSocketMiddleware, authenticate=authenticate)
