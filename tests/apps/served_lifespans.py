"""Treats lifespan events as LIFESPAN says, one of `tests.apps.lifespans`, and uses the manager of its worker.

It is served from where it stands, with the repository's directory in PYTHONPATH.
"""

import os

from starlette.types import Receive, Scope, Send

from tests.apps import lifespans
from wsd import WebSocketMiddleware, get_websocket_manager

lifespan = {kind.__name__: kind for kind in lifespans.KINDS}[os.environ["LIFESPAN"]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "http":
        reached = await get_websocket_manager().broadcast("hi")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(reached.everywhere).encode()})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(get_websocket_manager().statistics().mode)})
        await receive()


wrapped = WebSocketMiddleware(app)
