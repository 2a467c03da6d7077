"""Answers with its own version and that of a module that it imports later, with the first request."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = 0


async def versions(request: Request) -> PlainTextResponse:
    import later  # type: ignore[import-not-found]  # noqa: PLC0415

    return PlainTextResponse(f"{VERSION} {later.VERSION}")


app = Starlette(routes=[Route("/", versions)])
