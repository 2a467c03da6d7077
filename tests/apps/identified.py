"""`Cluster.serve` with and without an identity that the application knows; each client is told who it is."""

import asyncio
from typing import Any

from asgiref.sync import async_to_sync
from fastapi import FastAPI, WebSocket
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection

from wsd import Cluster, EventLoopBlockedError, Identity

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)
app_with_middleware = FastAPI()
app_with_middleware.add_middleware(cluster.middleware)
app_with_users = FastAPI(lifespan=cluster.lifespan)


class Backend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-user")
        return (AuthCredentials(), SimpleUser(name)) if name else None


app_with_users.add_middleware(AuthenticationMiddleware, backend=Backend())

KINDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "number": {"user_id": 7},
    "user": {"user_id": "given", "username": "Given"},
    "name": {"username": "Renamed"},
    "identity": {"identity": Identity("given", "Given", {"role": "admin"})},
    "expired": {"identity": Identity("given", expires_at=1.0)},
}


async def tell(websocket: WebSocket, kind: str) -> None:
    async with cluster.serve(websocket, **KINDS[kind]) as client:
        await client.join("all")
        found: Identity = websocket.state.identity
        await client.send([client.user_id, client.username, found.user_id, client.identity.claims.get("role")])
        async for _ in client:
            pass


async def check_ways() -> dict[str, Any]:
    """Publish in all ways that there are, and return what became of each."""
    answers: dict[str, Any] = {}
    try:
        cluster.sync.publish("all", 1)
    except EventLoopBlockedError as exc:
        answers["sync here"] = str(exc)
    answers["thread"] = (await asyncio.to_thread(cluster.sync.publish, "all", "thread")).everywhere
    publish = async_to_sync(cluster.publish)
    answers["async_to_sync"] = (await asyncio.to_thread(publish, "all", "async_to_sync")).everywhere

    async def everything() -> list[str]:
        done = [
            await cluster.publish("all", "elsewhere"),
            await cluster.broadcast("elsewhere"),
            await cluster.send_to_user("given", "elsewhere"),
            await cluster.presence("all"),
            await cluster.history("all"),
            await cluster.stats(),
            await cluster.health(),
        ]
        return [type(one).__name__ for one in done]

    answers["another loop"] = await asyncio.to_thread(asyncio.run, everything())

    def everything_in_a_thread() -> list[str]:
        sync = cluster.sync
        done = [
            sync.publish("all", "sync"),
            sync.broadcast("sync"),
            sync.send_to_user("given", "sync"),
            sync.presence("all"),
            sync.history("all"),
            sync.stats(),
            sync.health(),
        ]
        return [type(one).__name__ for one in done]

    answers["sync"] = await asyncio.to_thread(everything_in_a_thread)
    return answers


for one in (app, app_with_middleware, app_with_users):
    one.add_api_websocket_route("/tell/{kind}", tell)
    one.add_api_route("/ways", check_ways, methods=["POST"])
    one.add_api_route("/health", lambda: "ok")
    one.mount("/live", cluster.hub)
