"""Adds WebSocketMiddleware by itself, with one of the debug headers."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from wsd import WebSocketMiddleware


async def home(request: Request) -> JSONResponse:
    return JSONResponse({"worker": request.state.websocket_manager.worker_id})


app = Starlette(routes=[Route("/", home)])
app.add_middleware(WebSocketMiddleware, headers=["X-WebSocket-Worker-ID"])
