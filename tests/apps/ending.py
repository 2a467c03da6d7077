"""Notes each request in calls.txt. Then it ends its worker, takes long or answers, as the end of the path says."""

import asyncio
import os
import signal
from pathlib import Path

from starlette.types import Receive, Scope, Send


def note(path: str) -> None:
    with Path("calls.txt").open("a") as calls:
        calls.write(f"{path}\n")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] != "lifespan"
    note(scope["path"])
    if scope["path"].endswith("exit"):
        os._exit(1)
    if scope["path"].endswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if scope["path"].endswith("slow"):
        await asyncio.sleep(5)
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
