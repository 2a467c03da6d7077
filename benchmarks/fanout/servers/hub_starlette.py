"""A hub with plain Starlette: `+name` joins a channel, `=text` is sent back, `name text` is sent to the channel."""

import sys
from collections import defaultdict

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

channels: dict[str, set[WebSocket]] = defaultdict(set)


async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            text = await websocket.receive_text()
            if text.startswith("+"):
                channels[text[1:]].add(websocket)
                await websocket.send_text(text)
            elif text.startswith("="):
                await websocket.send_text(text)
            else:
                for member in tuple(channels[text.partition(" ")[0]]):
                    await member.send_text(text)
    except WebSocketDisconnect:
        for members in channels.values():
            members.discard(websocket)


app = Starlette(routes=[WebSocketRoute("/", endpoint)])

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="error",
        lifespan="off",
    )
