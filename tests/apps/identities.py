"""Connects its clients with the identity that the path names, and sends each the members of its channel.

`app` has no authentication of its own, `app_with_authentication` has Starlette's. `authenticate` is for the setting.
"""

import json
from typing import Any

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.types import Scope
from starlette.websockets import WebSocket

from wsd import ConnectionManager, Identity, get_websocket_manager

manager = ConnectionManager()
KINDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "user": {"user_id": "given", "username": "Given"},
    "number": {"user_id": 7},
    "identity": {"identity": Identity("given", "Given")},
}


async def members(websocket: WebSocket) -> None:
    await manager.connect(websocket, **KINDS[websocket.path_params["kind"]])
    _, found = await get_websocket_manager().presence("~" + manager.name)
    await websocket.send_text(json.dumps([(member.user_id, member.username) for member in found]))
    async for _ in websocket.iter_text():
        pass


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        if "authorization" in conn.headers:
            return AuthCredentials(), SimpleUser(conn.headers["authorization"])
        return None


def authenticate(scope: Scope) -> Identity:
    return Identity("known", "Known")


routes = [WebSocketRoute("/{kind}", members)]
app = Starlette(routes=routes)
app_with_authentication = Starlette(routes=routes, middleware=[Middleware(AuthenticationMiddleware, backend=Backend())])
