"""Keeps 200 MB more with each request."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

kept: list[bytes] = []


async def keep(request: Request) -> PlainTextResponse:
    kept.append(b"x" * 200_000_000)
    return PlainTextResponse("kept")


app = Starlette(routes=[Route("/", keep)])
