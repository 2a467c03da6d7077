"""Cancels the work of its worker with each request, as no application should.

There is no other way to see what becomes of a worker whose background work has stopped.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from wsd import get_websocket_manager


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    found = [task for task in asyncio.all_tasks() if task.get_name() == "worker"]
    for task in found:
        task.cancel()
    await asyncio.wait(found)
    reached = await get_websocket_manager().broadcast("nobody waits for a worker that has stopped")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(reached.everywhere).encode()})
