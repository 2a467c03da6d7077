"""A chat with rooms."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from chat.auth import current_user, password_hash, token_for
from chat.database import Message, SessionLocal, User, create_tables
from chat.manager import ConnectionManager


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    create_tables()
    yield


app = FastAPI(lifespan=lifespan)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static", html=True), name="static")
manager = ConnectionManager()


class Credentials(BaseModel):
    name: str
    password: str


@app.post("/login")
def login(credentials: Credentials) -> dict[str, str]:
    with SessionLocal() as session:
        user = session.scalar(select(User).where(User.name == credentials.name))
        hashed = password_hash(credentials.name, credentials.password)
        if user is None:
            user = User(name=credentials.name, password=hashed)
            session.add(user)
            session.commit()
        elif user.password != hashed:
            raise HTTPException(401, "wrong password")
    return {"token": token_for(user)}


@app.get("/rooms/{room}/messages")
def messages(room: str) -> list[dict[str, str]]:
    with SessionLocal() as session:
        found = session.scalars(select(Message).where(Message.room == room).order_by(Message.id.desc()).limit(50))
        return [{"name": message.user.name, "text": message.text} for message in reversed(found.all())]


def store(room: str, user: User, text: str) -> None:
    with SessionLocal() as session:
        session.add(Message(room=room, text=text, user_id=user.id))
        session.commit()


@app.websocket("/rooms/{room}")
async def chat(websocket: WebSocket, room: str, user: Annotated[User, Depends(current_user)]) -> None:
    await manager.connect(websocket, room)
    await manager.broadcast(room, {"name": user.name, "joined": room})
    try:
        while True:
            text = await websocket.receive_text()
            await run_in_threadpool(store, room, user, text)
            await manager.broadcast(room, {"name": user.name, "text": text})
    except WebSocketDisconnect:
        manager.disconnect(websocket, room)
        await manager.broadcast(room, {"name": user.name, "left": room})
