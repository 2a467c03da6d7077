"""Rooms with a history, for any number of workers. Run it with `wsd start rooms:app`."""

from fastapi import FastAPI, WebSocket
from wsd import Cluster

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)


@app.websocket("/rooms/{room}")
async def talk(websocket: WebSocket, room: str, name: str) -> None:
    async with cluster.serve(websocket, user_id=name) as client:  # a real application takes the name from its login
        await client.join(f"room:{room}", last=20)
        async for text in client:
            await client.publish(f"room:{room}", {"from": client.username, "text": text})


@app.post("/rooms/{room}")
async def announce(room: str, text: str) -> dict[str, bool]:
    published = await cluster.publish(f"room:{room}", {"from": "the server", "text": text})
    return {"everywhere": published.everywhere}


@app.get("/rooms/{room}/members")
def members(room: str) -> list[str]:  # a route in a thread
    return [member.username for member in cluster.sync.presence(f"room:{room}").members]
