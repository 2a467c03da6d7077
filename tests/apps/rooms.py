"""An application with a WebSocket protocol of its own, whose rooms are channels of the cluster."""

import json
from typing import Any

from fastapi import FastAPI, WebSocket

from wsd import Cluster, Gap, Message, Position, PresenceChanged, Record

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)


@app.websocket("/rooms/{room}")
async def rooms(websocket: WebSocket, room: str, name: str = "") -> None:
    async with cluster.serve(websocket, user_id=name or None) as client:
        await client.join(f"room:{room}")
        await client.send({"you": client.user_id})
        async for message in client:
            await client.publish(f"room:{room}", message)


def numbered(record: Record) -> str | None:
    match record:
        case Message(data=data, position=at, sender=sender):
            number = at.offset if at is not None else None
            return json.dumps({"n": number, "by": sender.user_id if sender else None, "data": data})
        case Gap(reason=reason, position=at):
            return json.dumps({"gap": reason, "n": at.offset})
        case PresenceChanged(joined=joined, left=left):
            return json.dumps({"came": [one.user_id for one in joined], "went": [one.user_id for one in left]})


@app.websocket("/numbered/{room}")
async def numbered_rooms(
    websocket: WebSocket, room: str, name: str = "", token: str = "", at: str = "", also: str = "", since: str = ""
) -> None:
    """`at`: the position in the room, of a client that resumes. `since`: that of one that joins anew."""
    channel = f"room:{room}"
    reached = {one: Position.parse(at) for one in (channel, also) if one} if at else {}
    async with cluster.serve(websocket, user_id=name or None, resume=token, since=reached, encode=numbered) as client:
        joined = await client.join(channel, Position.parse(since) if since else None)
        await client.send(
            {
                "token": client.resume_token,
                "resumed": client.resumed,
                "at": joined.position.offset if joined.position else None,
                "epoch": joined.position.epoch if joined.position else "",
                "recovered": joined.recovered,
                "reason": joined.reason,
            }
        )
        async for message in client:
            match json.loads(message):
                case "channels?":
                    await client.send({"channels": sorted(client.channels)})
                case data:
                    await client.publish(channel, data)


@app.get("/stats")
async def stats() -> Any:
    found = await cluster.stats()
    return {"complete": found.complete, "connections": found.connections, "messages_in": found.messages_in}


@app.post("/orders")
async def orders(order: dict[str, Any]) -> dict[str, Any]:
    published = await cluster.publish("room:orders", order)
    return {"everywhere": published.everywhere}


@app.post("/blocking-orders")
def blocking_orders(order: dict[str, Any]) -> dict[str, Any]:
    published = cluster.sync.publish("room:orders", order)
    return {"everywhere": published.everywhere}


app.mount("/live", cluster.hub)
