"""Answers each request after the seconds in its query string. The path names a file that is made when it begins."""

import asyncio
from pathlib import Path

from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    Path(scope["path"][1:]).touch()  # noqa: ASYNC240
    await asyncio.sleep(float(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
