"""A chat with two ConnectionManagers, whose endpoints end in every way that endpoints do."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from wsd import ConnectionManager, get_websocket_manager

manager = ConnectionManager()
other = ConnectionManager()
held: list[WebSocket] = []


async def chat(websocket: WebSocket) -> None:
    query = websocket.query_params
    await manager.connect(websocket, user_id=query.get("user_id"), username=query.get("username", ""))
    async for text in websocket.iter_text():
        if text == "leave":
            manager.disconnect(websocket)
        elif text == "fail":
            raise RuntimeError("an endpoint that forgets to disconnect")
        elif text == "stop":
            break
        else:
            await manager.send_personal_message(f"you: {text}", websocket)
            await manager.broadcast({"all": text})


async def quiet(websocket: WebSocket) -> None:
    await other.connect(websocket)
    async for text in websocket.iter_text():
        await other.broadcast(text)


async def hold(websocket: WebSocket) -> None:
    """Keep the WebSocket after its end."""
    await manager.connect(websocket)
    held.append(websocket)
    async for _ in websocket.iter_text():
        pass


async def counts(request: Request) -> JSONResponse:
    found = get_websocket_manager()
    return JSONResponse({"here": found.connection_count, "active": len(manager.active_connections)})


app = Starlette(
    routes=[
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/quiet", quiet),
        WebSocketRoute("/hold", hold),
        Route("/health", counts),
    ]
)
