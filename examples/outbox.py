"""Orders that are announced exactly when they are committed: an outbox in PostgreSQL, with SQLAlchemy.

The database has what `wsd init --postgres` prints. Run it with both URLs:

    DATABASE_URL=postgresql+asyncpg://shop@localhost/shop WSD_POSTGRES_URL=postgresql://wsd_relay@localhost/shop \
        wsd start outbox:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, WebSocket
from sqlalchemy import BigInteger, CheckConstraint, Identity, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from wsd import Cluster

engine = create_async_engine(os.environ["DATABASE_URL"])
new_session = async_sessionmaker(engine)


class Table(MappedAsDataclass, DeclarativeBase):
    pass


class Order(Table):
    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("amount > 0"),)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True, init=False)
    item: Mapped[str] = mapped_column(Text)
    amount: Mapped[int]


class Message(Table):
    """A message to clients. wsd publishes it once its transaction has committed, and deletes the row."""

    __tablename__ = "wsd_outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True, init=False)
    channel: Mapped[str] = mapped_column(Text)
    data: Mapped[Any] = mapped_column(JSONB)


cluster = Cluster()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with cluster.lifespan(app):
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/orders")
async def place_order(item: str, amount: int) -> dict[str, int]:
    async with new_session.begin() as session:  # an order of nothing is rolled back, and its message with it
        session.add(Message("orders", {"item": item, "amount": amount}))
        order = Order(item, amount)
        session.add(order)
        await session.flush()
        return {"order": order.id}


@app.websocket("/orders")
async def show_orders(websocket: WebSocket) -> None:
    async with cluster.serve(websocket) as client:
        await client.join("orders")
        async for _ in client:  # clients only listen
            pass
