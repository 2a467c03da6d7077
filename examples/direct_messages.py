"""Direct messages between users, on whatever workers they are. Run it with `wsd start direct_messages:app`."""

from fastapi import FastAPI, WebSocket
from wsd import Cluster

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)


@app.websocket("/direct")
async def talk(websocket: WebSocket, name: str) -> None:
    """Each text begins with the name of the user that it is for. All connections of that user get it."""
    async with cluster.serve(websocket, user_id=name) as client:  # a real application takes the name from its login
        async for message in client:
            to, _, text = str(message).partition(" ")
            try:
                await cluster.send_to_user(to, {"from": client.user_id, "text": text})
            except ValueError as exc:  # no user can have such a name
                await client.send({"error": str(exc)})
