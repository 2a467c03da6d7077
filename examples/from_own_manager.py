"""What chats do with a connection manager of their own, done with wsd's.

Run it with `wsd start from_own_manager:app`.
"""

import json

from fastapi import FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from wsd import ConnectionManager, Gap, Message, Record

app = FastAPI()
manager = ConnectionManager()
games = ConnectionManager()
pictures = ConnectionManager()
private = ConnectionManager()
TOKENS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}


@app.websocket("/rooms/{room}")
async def talk(websocket: WebSocket, room: str) -> None:
    await manager.connect(websocket, room)
    try:
        while True:
            data = await websocket.receive_json()
            await manager.broadcast(data, room, exclude=websocket)
    except WebSocketDisconnect:
        manager.disconnect(websocket, room)
        await manager.broadcast({"left": room}, room)


@app.websocket("/games/{game}")
async def play(websocket: WebSocket, game: int) -> None:
    await games.connect(websocket, game)
    async for move in websocket.iter_json():
        await games.broadcast(move, game)


@app.websocket("/pictures")
async def draw(websocket: WebSocket) -> None:
    await pictures.connect(websocket)
    async for picture in websocket.iter_bytes():
        await pictures.broadcast(picture)


@app.websocket("/private")
async def whisper(websocket: WebSocket) -> None:
    await websocket.accept()
    user_id = TOKENS.get(await websocket.receive_text())
    if user_id is None:
        raise WebSocketException(1008, "unknown token")
    await private.connect(websocket, f"user:{user_id}", user_id=user_id, accept=False)
    async for data in websocket.iter_json():
        await private.broadcast({"from": user_id, "text": data["text"]}, f"user:{data['to']}")


def with_position(record: Record) -> str | None:
    """Return what a page is sent: the text, and the position with which the page comes back."""
    match record:
        case Message(data=data, position=position):
            return json.dumps({"text": data, "at": str(position or "")})
        case Gap(position=position):
            return json.dumps({"gap": True, "at": str(position)})
    return None


notes = ConnectionManager(history=True, encode=with_position)


@app.websocket("/notes/{room}")
async def note(websocket: WebSocket, room: str, at: str = "") -> None:
    if at:
        await notes.connect(websocket, room, since=at)
    else:
        await notes.connect(websocket, room, last=50)
    async for text in websocket.iter_text():
        await notes.broadcast(text, room)
