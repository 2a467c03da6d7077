"""Answers with what an application sees of a request: the client's address, the scheme, the host, and the manager."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def facts(request: Request) -> JSONResponse:
    assert request.client is not None
    return JSONResponse(
        {
            "client": request.client.host,
            "scheme": request.url.scheme,
            "host": request.headers["host"],
            "worker": request.state.websocket_manager.worker_id,
        }
    )


async def echo(websocket: WebSocket) -> None:
    assert websocket.client is not None
    await websocket.accept()
    await websocket.send_json({"client": websocket.client.host, "said": await websocket.receive_text()})
    await websocket.close()


app = Starlette(routes=[Route("/facts", facts), WebSocketRoute("/echo", echo)])
