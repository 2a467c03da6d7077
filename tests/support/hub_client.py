"""What tests of one worker say to it, and hear."""

import asyncio
import itertools
import json
from typing import Any

from websockets.asyncio.client import ClientConnection

_ids = itertools.count(1)


async def receive(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


def said(message: dict[str, Any]) -> dict[str, Any]:
    """A message without where it stands in the history."""
    return {key: value for key, value in message.items() if key not in ("offset", "epoch", "uid")}


async def ask(connection: ClientConnection, **request: object) -> dict[str, Any]:
    """Send a request with an id; its answer, whatever else arrives before it is dropped."""
    request_id = next(_ids)
    await connection.send(json.dumps({**request, "id": request_id}))
    while (answer := await receive(connection)).get("id") != request_id:
        pass
    return answer


async def close_of(connection: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason with which the server ends it."""
    async with asyncio.timeout(10):
        await connection.wait_closed()
    return connection.close_code, connection.close_reason
