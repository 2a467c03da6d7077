"""WebSockets of `Cluster.serve` that end in as many ways as there are."""

import asyncio
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketException

from wsd import Cluster

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)
left: list[str] = []


@app.get("/left")
def blocks_that_were_left() -> list[str]:
    return left


@app.websocket("/returns")
async def returns(websocket: WebSocket) -> None:
    async with cluster.serve(websocket) as client:
        await client.send("x" * 100_000)
        await client.send("last")


@app.websocket("/returns-much")
async def returns_much(websocket: WebSocket) -> None:
    async with cluster.serve(websocket) as client:
        await client.send("x" * 4_000_000)


@app.websocket("/raises/{what}")
async def raises(websocket: WebSocket, what: str) -> None:
    async with cluster.serve(websocket) as client:
        match what:
            case "bug":
                raise KeyError("a bug of the application")
            case "websocket-exception":
                raise WebSocketException(4123, "not today")
            case "bad-code":
                raise WebSocketException(1006, "cannot be sent")
            case "channel":
                await client.join("no such\nname")
            case "full":
                await client.join("full")
            case "binary":
                await client.publish("room", b"\xff")
            case "surrogate":
                await client.publish("room", {"text": "\ud83d"})
            case "closed":
                await client.close(4321, "enough")
                async for _ in client:
                    raise AssertionError


@app.websocket("/until-the-end/{how}")
async def until_the_end(websocket: WebSocket, how: str, name: str = "ann") -> None:
    async with cluster.serve(websocket, user_id=name) as client:
        await client.send("here")
        try:
            match how:
                case "iterates":
                    async for message in client:
                        await client.send(message)
                case "receives":
                    while True:
                        await websocket.send_json(await websocket.receive_json())
                case "group":
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(asyncio.sleep(60))
                        tasks.create_task(websocket.receive_text())
                        tasks.create_task(asyncio.sleep(60))
                        await websocket.receive_text()
        finally:
            left.append(how)
    left.append(f"after {how}")


@app.websocket("/by-first-message")
async def by_first_message(websocket: WebSocket) -> None:
    await websocket.accept("chat.v1")
    name = await websocket.receive_text()
    async with cluster.serve(websocket, user_id=name, username="Ann", accept=False) as client:
        await client.send([client.user_id, client.username, websocket.state.identity.user_id])
        async for message in client:
            await client.send(message)


@app.websocket("/named")
async def named(websocket: WebSocket, name: str) -> None:
    async with cluster.serve(websocket, user_id=name, subprotocol="chat.v1") as client:
        await client.send("here")
        async for message in client:
            await client.send(message)


@app.get("/health")
async def health() -> Any:
    return {"status": (await cluster.health()).status}
