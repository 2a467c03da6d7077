"""Rooms whose clients come back and get what they missed. Run it with `wsd start numbered_rooms:app`."""

import json

from fastapi import FastAPI, WebSocket
from wsd import Cluster, Gap, Message, Record

cluster = Cluster()
app = FastAPI(lifespan=cluster.lifespan)


def frame(record: Record) -> str | None:
    match record:
        case Message(data=data, position=position):
            return json.dumps({"data": data, "at": str(position) if position else None})
        case Gap(reason=reason, position=position):
            return json.dumps({"gap": reason, "at": str(position)})
    return None


@app.websocket("/rooms/{room}")
async def talk(websocket: WebSocket, room: str, name: str, token: str = "", at: str = "") -> None:
    """`token` and `at`: what the client got last from an earlier connection."""
    channel = f"room:{room}"
    async with cluster.serve(websocket, user_id=name, resume=token, since={channel: at}, encode=frame) as client:
        if not client.resumed:  # a client that resumes its session is in its channels already
            await client.join(channel, at)
        await client.send({"token": client.resume_token, "at": str(client.positions.get(channel, ""))})
        async for text in client:
            await client.publish(channel, text)
