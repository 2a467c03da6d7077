"""Ends its worker on request; slot 1 does not start while there is a file `broken`."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def end(request: Request) -> None:
    os._exit(int(request.query_params["code"]))


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


if Path("broken").exists() and os.environ["WSD_WORKER_SLOT"] == "1":
    raise SystemExit("slot 1 is broken today")
app = Starlette(routes=[Route("/end", end), Route("/", home)])
