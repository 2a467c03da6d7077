"""A hub with python-socketio, alone or with its Redis manager."""

import sys
from typing import Any

import socketio
import uvicorn

port, redis_url = int(sys.argv[1]), sys.argv[2]
manager = socketio.AsyncRedisManager(redis_url) if redis_url else None
server = socketio.AsyncServer(async_mode="asgi", client_manager=manager, cors_allowed_origins="*")


@server.event
async def join(sid: str, channel: str) -> None:
    await server.enter_room(sid, channel)
    await server.emit("joined", to=sid)


@server.event
async def say(sid: str, channel: str, text: str) -> None:
    await server.emit("m", text, room=channel)


@server.event
async def echo(sid: str, data: Any) -> None:
    await server.emit("m", data, to=sid)


uvicorn.run(
    socketio.ASGIApp(server),
    port=port,
    ws="websockets-sansio",
    ws_per_message_deflate=False,
    log_level="error",
    lifespan="off",
)
